"""BatchNorm took its statistics from one value per channel, or from a few.

What happens
    With one value per channel the variance is zero and the normalised value is
    zero, whatever came in: PyTorch refuses ("Expected more than 1 value per
    channel when training"). The usual culprit is the last, smaller batch of an
    epoch. With two or three values the statistics are noise, gradients are large
    and evaluation differs wildly from training. Two values become -1 and 1, whatever
    they were: no gradient passes the layer, nothing is NaN, and nothing is learned.

How to tell it from its neighbours
    unsafe-op: a hand-written normalisation divides by the std of one row; the
    operation is then std or div in the user's own code. Here a BatchNorm layer
    and its count of values per channel are recorded.

What to do
    Drop the last incomplete batch, or make batches larger, or use a normalisation
    that does not look across the batch.

Sources
    nan-guide (BatchNorm with a batch of 1, larger batch), monash-stability
    (smaller batch: not followed here), PyTorch's documentation of DataLoader
"""

import re

from ..evidence import Bad, BatchNorm, Evidence
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .course import LITTLE, learned
from .domains import in_graph
from .failure import BACK, failed, settled
from .remedies import nan_guide
from .wording import num

MESSAGES = re.compile(r"Expected more than 1 (value per channel|spatial element) when training", re.IGNORECASE)
CRASHED = 0.97  # torch says it in words
ONE = 1  # no variance at all
HAND = 0.9  # statistics over one row, seen in the operand
FEW = 4  # statistics of four values or fewer are noise
SILENT = 0.8  # no failure was seen, only a layer that lets nothing through and a loss that stays
PAIR = 2  # of two values one is +1 and one is -1, whatever they were
TWO, HARDLY = 0.75, 0.55  # nothing failed: the statistics are noise all the same
MUCH = 0.6  # of the first loss won: whatever the statistics are, it learns
COLLAPSE = 1e-4  # rms of the gradient behind the layer / at it; healthy layers keep it near 1
MANY = 100  # steps in which a run that can learn has learned something
HAND_MADE = ("std", "var", "std_mean", "var_mean")


def judge(e: Evidence) -> Answer:
    crash, norm, bad = e.crash, e.batchnorm, e.bad
    if crash is not None and MESSAGES.search(crash.message):
        facts = [Fact(f"{crash.type}: {crash.message.strip().splitlines()[0][:160]}", layer=crash.layer)]
        if norm is not None:
            facts.append(
                Fact(
                    f"before that layer {norm.layer} took statistics from {norm.usual} values per channel",
                    norm.usual,
                    FEW,
                    norm.step,
                    norm.layer,
                )
            )
        return Verdict(CRASHED, "The run ended in a normalisation layer that saw one value per channel.", tuple(facts))
    if not failed(e):
        return _collapsed(e, norm) or _always_tiny(e, norm)
    if bad is not None and bad.op in HAND_MADE and _one_row(bad) and in_graph(bad) and one_row_given(e):
        what = f"{bad.op} over a batch of one row, in the program's own normalisation"
        return Verdict(HAND, f"At step {bad.step}: {what}.", (Fact(what, 1, FEW, bad.step, bad.layer),))
    if norm is None or norm.fewest > FEW:
        return None
    near = abs(norm.step - e.onset.step) <= 2 or norm.usual <= FEW
    here = bad is not None and "Norm" in (bad.module or "")
    what = f"layer {norm.layer} took its statistics from {norm.fewest} values per channel"
    fact = Fact(what, norm.fewest, FEW, norm.step, norm.layer)
    return Verdict(
        _confidence(norm, near, here),
        f"At step {norm.step} {what}.",
        (fact,),
        () if near else ("the run left its path at another step",),
    )


def _collapsed(e: Evidence, norm: BatchNorm | None) -> Answer:
    """Nothing is NaN, and nothing is learned: of two values per channel the normalised ones are -1 and 1, whatever
    came in, so that no gradient passes.
    """
    loss = e.loss
    if norm is None or norm.most > FEW or norm.collapse is None or norm.collapse >= COLLAPSE:
        return None
    if loss is None or loss.early is None or loss.steps < MANY or not loss.end >= BACK * loss.early:
        return None
    counted = f"layer {norm.layer} took its statistics from {norm.usual} values per channel, in every batch"
    passed = f"of the gradient at {norm.collapse_layer} only {num(norm.collapse)} was left behind it"
    stayed = f"the loss was {num(loss.early)} in the first steps and {num(loss.end)} in the last of {loss.steps}"
    facts = (
        Fact(counted, norm.usual, FEW, norm.step, norm.layer),
        Fact(passed, norm.collapse, COLLAPSE, layer=norm.collapse_layer),
        Fact(stayed, loss.end, loss.early),
    )
    return Verdict(SILENT, f"The run learned nothing: {counted}, and hardly a gradient passed.", facts)


def _always_tiny(e: Evidence, norm: BatchNorm | None) -> Answer:
    """Statistics of one or two values in every batch: training and evaluation see two different networks (E8)."""
    won = learned(e)
    pairs = norm is not None and norm.most <= PAIR
    if won is None and e.course is not None and not settled(e) and (pairs or e.course.end >= e.course.start):
        won = max(0.0, e.course.progress)  # losses of two samples are noisy: what is seen of it is all that is known
    if norm is None or won is None or norm.usual > FEW or won >= (MUCH if norm.usual <= PAIR else LITTLE):
        return None
    what = f"layer {norm.layer} takes its statistics from {norm.usual} values per channel, batch after batch"
    confidence = TWO if norm.usual <= PAIR else HARDLY
    return Verdict(confidence, f"{what[0].upper()}{what[1:]}.", (Fact(what, norm.usual, PAIR, norm.step, norm.layer),))


def _confidence(norm: BatchNorm, near: bool, here: bool) -> float:
    if norm.fewest <= ONE:
        return 0.93 if near or here else 0.6
    if here:
        return 0.7
    return 0.45 if near else 0.2  # small batches are common: without more they are a candidate


def one_row_given(e: Evidence) -> bool:
    """The batch itself, not a part of it: a word, a crop, a group may well be alone."""
    return e.data is None or e.data.fewest_rows is None or e.data.fewest_rows <= ONE


def _one_row(bad: Bad) -> bool:
    x = bad.operand("self", "input")
    return x is not None and x.rows == 1


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    usual = f" (usually {e.batchnorm.usual} values per channel)" if e.batchnorm else ""
    docs = "https://docs.pytorch.org/docs/stable/data.html"
    drop = Remedy(
        "Drop the last incomplete batch",
        f"drop_last=False -> drop_last=True{usual}",
        docs,
        "batchnorm",
        "DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)",
    )
    group = Remedy(
        "A normalisation that ignores the batch",
        "BatchNorm -> GroupNorm or LayerNorm",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.GroupNorm.html",
        None,
        "torch.nn.GroupNorm(num_groups, channels)",
    )
    frozen = Remedy(
        "Use the running statistics for such a batch",
        "that layer in eval mode when the batch is one row",
        "nan-guide",
        "batchnorm",
        "bn.eval() if len(x) == 1 else bn.train()",
    )
    if e.batchnorm and e.batchnorm.usual <= FEW:  # then it is no matter of the last batch
        return (nan_guide.larger_batch(e), group, drop, frozen)
    return (drop, nan_guide.larger_batch(e), group, frozen)


CAUSE = Cause("batchnorm-tiny-batch", "BatchNorm saw one value per channel, or a few", __doc__, judge, remedies)
