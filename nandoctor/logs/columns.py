"""What a name in a log means: train_loss, "Val Loss", eval_loss, Loss/train, gnorm, lr-AdamW, 验证损失."""

import re
from functools import lru_cache

EPOCH, STEP = "epoch", "step"
VALIDATION = re.compile(r"(^|_)(val|valid|validation|eval|evaluation|evaluate|test|testing|dev)(_|$)|验证|测试")
TRAINING = re.compile(r"(^|_)(train|training)(_|$)|训练")
LOSS = re.compile(r"(^|_)(loss|losses|nll|cost|objective|criterion|mse)(_|$)|loss$|损失")
NO_LOSS = re.compile(r"scale|best|min_|max_|improv|patience|weight|coef|ratio|std|delta|early|_lr|limit|threshold")
RATE = re.compile(r"(^|_)(lr|learning_?rate)(_|$|\d)|学习率")
NORM = re.compile(
    r"(^|_)(grad|grads|gradient|gradients|g)_?(\d[\d_]*)?_?norm|gnorm|total_norm|梯度范数|norm_(of_)?grad"
)
EPOCHS = re.compile(r"^(train_|training_|current_)?(epoch|epochs|ep)(_?(num|number|no|idx|index))?$|^轮次?$")
STEPS = re.compile(
    r"^(train_|training_|trainer_|optimizer_|current_|global_)*"
    r"(step|steps|iter|iters|iteration|iterations|batch|batch_idx|batch_id|batch_no|update|num_updates|it)"
    r"(_?(num|number|no|idx|index))?$|^步数?$|^批次$"
)
# losses that need not fall: they play against each other, or reward is what counts
RIVAL = re.compile(
    r"(^|_)(d|g|gen|generator|disc|discriminator|adv|critic|actor|policy|value)_(a_|b_)?loss"
    r"|loss_(d|g|gen|generator|disc|discriminator|adv|critic|actor|policy|value)(_|$)|(^|_)(loss)?[dg]loss$"
)


@lru_cache(4096)
def role_of(name: str) -> str | None:
    """train, validation, lr, norm, epoch, step, rival (a loss, too); None for everything else."""
    plain = re.sub(r"[\s./\\:@-]+", "_", name.strip().lower()).strip("_")
    if RATE.search(plain) and not LOSS.search(plain):
        return "lr"
    if NORM.search(plain):
        return "norm"
    if LOSS.search(plain) and not NO_LOSS.search(plain):
        if RIVAL.search(plain):
            return "rival"
        return "validation" if VALIDATION.search(plain) and not TRAINING.search(plain) else "train"
    if EPOCHS.match(plain):
        return EPOCH
    return STEP if STEPS.match(plain) else None
