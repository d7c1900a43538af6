"""Code lines that fit the program: Accelerate's own clip, unscale_ before a clip, the optimizer's own class."""

import re

from ...evidence import Evidence
from ..wording import num
from .this_run import half_weights

HF = {  # arguments of an optimizer as TrainingArguments takes them
    "eps": "adam_epsilon={}",
    "betas": "adam_beta1={0[0]}, adam_beta2={0[1]}",
    "momentum": "optim_args='momentum={}'",
    "alpha": "optim_args='alpha={}'",
}
PATH = re.compile(r"[A-Za-z0-9_]{1,60}(\.[A-Za-z0-9_]{1,60}){0,12}")


def clip(e: Evidence, max_norm: float, keep: bool = False) -> str:
    """`keep`: the norm that it returns is kept."""
    style, limit = e.style, decimal(max_norm)
    if style.hf_trainer:
        return f"TrainingArguments(..., max_grad_norm={limit})"
    if style.lightning and style.manual:
        return f"self.clip_gradients(optimizer, {limit}, 'norm')  # in training_step, before optimizer.step()"
    if style.lightning:
        return f"Trainer(..., gradient_clip_val={limit})"
    kept = "norm = " if keep else ""
    if style.accelerate:
        return f"{kept}accelerator.clip_grad_norm_({parameters(e)}, {limit})"
    line = f"{kept}torch.nn.utils.clip_grad_norm_({parameters(e)}, max_norm={limit})"
    if style.unscales:  # a second unscale_ before update is an error
        return f"{line}  # after the scaler.unscale_ that is there"
    return f"scaler.unscale_(optimizer); {line}" if style.scaler else line


def decimal(value: float) -> str:
    """1.0, 0.5, 1.23e+03: a float where it is read by itself."""
    text = num(value)
    return text if "." in text or "e" in text else f"{text}.0"


def parameters(e: Evidence) -> str:
    return f"{model(e)}.parameters()"


def model(e: Evidence) -> str:
    return "self" if e.style.lightning else e.style.model


def layer(e: Evidence, path: str | None) -> str:
    """A layer by its dotted path, as Python writes it: model.body[2].fc1"""
    if path is None or not PATH.fullmatch(path):
        return "layer"
    return model(e) + "".join(f"[{part}]" if part.isdigit() else f".{part}" for part in path.split("."))


def optimizer(e: Evidence, lr: float | None, **changed: float | tuple[float, float]) -> str:
    """The run's own optimizer at another rate, or with another argument."""
    if e.style.hf_trainer:
        told = [f"learning_rate={num(lr)}"] if lr is not None else []
        told += [HF[name].format(value) for name, value in changed.items()]
        return f"TrainingArguments({', '.join(['...', *told])})"
    name = e.style.constructor or (e.optimizer.name if e.optimizer else "torch.optim.AdamW")
    arguments = e.style.arguments
    for argument in changed:
        arguments = re.sub(rf", {argument}=(\([^)]*\)|[^,]*)", "", arguments)
    arguments += "".join(f", {argument}={value}" for argument, value in changed.items())
    rate = f", lr={num(lr)}" if lr is not None else ""
    return _made(e, f"{name}({parameters(e)}{rate}{arguments})")


def adamw(e: Evidence, lr: float, weight_decay: float, eps: float = 1e-8) -> str:
    decay = f"weight_decay={num(weight_decay)}"
    if e.style.hf_trainer:
        arguments = f"learning_rate={num(lr)}, {decay}, adam_epsilon={num(eps)}"
        return f"TrainingArguments(..., optim='adamw_torch', {arguments})"
    return _made(e, f"torch.optim.AdamW({parameters(e)}, lr={num(lr)}, {decay}, eps={num(eps)})")


def _made(e: Evidence, call: str) -> str:
    return f"return {call}  # in configure_optimizers" if e.style.lightning else f"optimizer = {call}"


def scaled_rates(e: Evidence, factor: float) -> str:
    """Every group's rate by the same factor, before the first step and before a schedule is made."""
    if e.style.lightning or e.style.hf_trainer:
        return f"lr = lr * {num(factor)}  # of every group, and of its schedule"
    return f"for group in optimizer.param_groups: group['lr'] *= {num(factor)}  # before a schedule is made"


def gradient_norm(e: Evidence) -> str:
    """The norm without a clip; an infinite limit changes nothing that is finite."""
    return f"norm = torch.nn.utils.clip_grad_norm_({parameters(e)}, float('inf'))"


def skip(e: Evidence, condition: str) -> str:
    """Leave a batch out before its backward."""
    if e.style.lightning:
        return f"if {condition}: return None  # in training_step: the batch is left out"
    if e.style.hf_trainer:
        return (
            "if any(p.grad is not None and not p.grad.isfinite().all() for p in model.parameters()): "
            "model.zero_grad()  # in TrainerCallback.on_pre_optimizer_step"
        )
    if e.style.accelerate:
        condition = condition.replace("(loss)", "(accelerator.gather(loss)).all()")
    elif e.style.world > 1:  # a process that skips alone leaves the others waiting; all_reduce adds, and returns None
        condition = f"torch.distributed.all_reduce(bad := torch.tensor(float({condition})).to(loss.device)) or bad > 0"
    return f"if {condition}: optimizer.zero_grad(); continue"


def checked_step(e: Evidence) -> str:
    """A step that is left out where a gradient is not finite."""
    if e.style.hf_trainer:
        return skip(e, "")
    if e.style.lightning:
        return f"{gradient_norm(e)}; norm.isfinite() or optimizer.zero_grad()  # in on_before_optimizer_step"
    if e.style.scaler:
        return "scaler.step(optimizer); scaler.update()  # leaves out a step with Inf or NaN by itself"
    return f"{gradient_norm(e)}; optimizer.step() if norm.isfinite() else optimizer.zero_grad()"


def schedule(e: Evidence, made: str, every: str) -> str:
    """A scheduler, and when it is stepped: every batch or every epoch."""
    if e.style.lightning:
        interval = "step" if every == "batch" else "epoch"
        made = f"{{'scheduler': {made}, 'interval': '{interval}'}}"
        return f"return {{'optimizer': optimizer, 'lr_scheduler': {made}}}  # in configure_optimizers"
    return f"scheduler = {made}  # scheduler.step() after every {every}"


def full_precision(e: Evidence) -> str:
    if e.style.hf_trainer:
        return "TrainingArguments(..., fp16=False, bf16=False)"
    if e.style.lightning:
        return "Trainer(..., precision='32-true')"
    if e.style.accelerate:
        return "accelerator = Accelerator(mixed_precision='no')"
    if half_weights(e) or (e.precision.autocast is None and (e.precision.float16 or e.precision.bfloat16)):
        return f"{e.style.model} = {e.style.model}.float()  # and its inputs: x = x.float()"
    return f"with torch.autocast(x.device.type, enabled=False): output = {e.style.model}(x)"


def bfloat16(e: Evidence) -> str:
    if e.style.hf_trainer:
        return "TrainingArguments(..., bf16=True, fp16=False)"
    if e.style.lightning:
        return "Trainer(..., precision='bf16-mixed')"
    if e.style.accelerate:
        return "accelerator = Accelerator(mixed_precision='bf16')"
    if half_weights(e):
        return f"{e.style.model} = {e.style.model}.bfloat16()  # and its inputs: x = x.bfloat16()"
    return f"with torch.autocast(x.device.type, dtype=torch.bfloat16): output = {e.style.model}(x)"


def master_weights(e: Evidence) -> str:
    """Weights in float32, arithmetic in half where it is safe."""
    kind = "bf16" if half_weights(e) == "bfloat16" else "fp16"
    model = e.style.model
    if e.style.hf_trainer:
        return f"{model} = {model}.float(); args = TrainingArguments(..., {kind}=True)  # before Trainer(...)"
    if e.style.lightning:
        return f"Trainer(..., precision='{kind.removeprefix('fp')}-mixed')  # not '{kind.removeprefix('fp')}-true'"
    if e.style.accelerate:
        return f"{model} = {model}.float(); accelerator = Accelerator(mixed_precision='{kind}')  # before prepare"
    return f"{model} = {model}.float()  # before the optimizer is made; then autocast around forward and loss"


def grad_scaler(e: Evidence, **arguments: float) -> str:
    """Without a device it is made for CUDA, and does nothing where there is none."""
    device = ["'cpu'"] if e.style.torch is not None and e.style.cuda is None and "rocm" not in e.style.torch else []
    told = [*device, *(f"{name}={value:.0f}" for name, value in arguments.items())]
    return f"scaler = torch.amp.GradScaler({', '.join(told)})"


def island(e: Evidence) -> str:
    """One layer in float32."""
    if half_weights(e):
        return "y = layer(x.float()).half()  # layer = layer.float() before the optimizer is made"
    return "with torch.autocast(x.device.type, enabled=False): y = layer(x.float())"
