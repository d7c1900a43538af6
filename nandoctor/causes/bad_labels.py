"""Labels are NaN, out of range, or all ignored.

What happens
    A class index that the model has no output for ends the run with an index
    error, on a GPU with a device-side assert. A batch whose every label is
    ignored gives a mean over nothing, which is NaN. A NaN in a regression target
    makes the loss NaN at once.

How to tell it from its neighbours
    In bad-input-data the NaN is in what the model is given; here in what it is
    compared with. In data-outlier the targets are wild but finite.

What to do
    Check the label map: the number of outputs must exceed the largest label, and
    a label below 0 must be the loss's ignore_index. Leave out batches with no
    label at all.

Sources
    nan-guide (wrong labels, data check), PyTorch's documentation of CrossEntropyLoss
"""

import math
import re

from ..evidence import Bad, Evidence, Operand
from .bad_input_data import place
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .failure import failed
from .remedies import monash_stability, nan_guide
from .step_size import LOUD_RMS
from .targets import beside, is_target
from .wording import num

MESSAGES = re.compile(
    r"Target -?\d+ is out of bounds|index out of range in self|Class values must be|target label|"
    r"index -?\d+ is out of bounds for dimension|`?t >= 0 && t < n_classes|"
    r"all elements of target should be between 0 and 1|cur_target >= 0|srcIndex < srcSelectDimSize|"
    r"index out of bounds: [-\d<= ]+",
    re.IGNORECASE,
)
CRASHED = 0.96  # the exception says it in words
SEEN = 0.9  # labels outside the range were recorded, and the run failed
WRAPPED = 0.85  # no error, and no loss that anybody meant
TARGET_BAD = 0.95  # NaN seen in a target: a missing label; Inf there was computed, see bad-input-data
LABEL_LOSSES = ("cross_entropy", "nll_loss", "mean", "div", "sum")


def judge(e: Evidence) -> Answer:
    crash, data, bad = e.crash, e.data, e.bad
    if crash is not None and MESSAGES.search(crash.message):
        facts = [Fact(f"{crash.type}: {crash.message.strip().splitlines()[0][:160]}")]
        if data and data.labels_high is not None and data.labels_low is not None:
            facts.append(
                Fact(f"integers in the batches span {data.labels_low:.0f} to {data.labels_high:.0f}", data.labels_high)
            )
        return Verdict(
            CRASHED, f"The run ended on an index that is out of range: {crash.message.strip()[:120]}", tuple(facts)
        )
    if bad is not None and bad.phase == "input" and is_target(bad, e) and bad.kind == "nan" and beside(bad, e) is None:
        what = f"the target {place(bad)} holds {bad.kind or 'NaN or Inf'}"
        return Verdict(TARGET_BAD, f"At step {bad.step} {what}.", (Fact(what, bad.kind, step=bad.step),))
    if bad is not None and all_ignored(bad):
        target = _classes(bad)
        labels = f", all of them {target.low:.0f}" if target is not None and target.low == target.high else ""
        what = f"no label of the batch counts{labels}: the loss is a mean over nothing"
        return Verdict(SEEN, f"At step {bad.step} {what}.", (Fact(what, step=bad.step),))
    if bad is not None and _over_nothing(e, bad):
        what = f"{bad.op} was given scores without NaN and returned NaN: a mean over nothing, for no label counts"
        return Verdict(SEEN, f"At step {bad.step} {what}.", (Fact(what, step=bad.step),))
    if data is not None and data.wrapped_labels is not None:
        step, low = data.wrapped_labels
        what = f"the loss was indexed with labels down to {low:.0f}: Python counts those from the last class"
        return Verdict(WRAPPED, f"{what[0].upper()}{what[1:]}.", (Fact(what, low, 0, step=step),))
    if e.least_count is not None:
        what = f"the targets of a Poisson likelihood go down to {num(e.least_count)}: no count does"
        return Verdict(WRAPPED, f"{what[0].upper()}{what[1:]}.", (Fact(what, e.least_count, 0),))
    if data is not None and data.outside is not None and no_probability(e):
        step, loss, low, high = data.outside
        what = f"the targets of {loss} span {num(low)} to {num(high)}, which are no probabilities"
        return Verdict(WRAPPED, f"{what[0].upper()}{what[1:]}.", (Fact(what, high, 1, step=step),))
    if data is not None and data.void is not None:
        step, tensor, code = data.void
        what = f"{tensor} holds {code:.0f}, which is no class, and the loss took it for one"
        return Verdict(WRAPPED, f"{what[0].upper()}{what[1:]}.", (Fact(what, code, step=step),))
    if data is None or not failed(e):
        return None
    if data.all_ignored and bad is not None and bad.op in LABEL_LOSSES and data.all_ignored[0] <= bad.step:
        step, tensor = data.all_ignored
        what = f"every label of {tensor} is left out at step {step}: the loss is a mean over nothing"
        return Verdict(SEEN, f"{what[0].upper()}{what[1:]}.", (Fact(what, step=step),))
    if data.negative_labels and data.labels_low is not None:
        step, tensor = data.negative_labels
        what = f"{tensor} holds {data.labels_low:.0f} at step {step}, which is no class and not -100"
        return Verdict(0.55, f"{what}.", (Fact(what, data.labels_low, 0, step=step),))
    return None


def no_probability(e: Evidence) -> bool:
    """Targets of a binary loss beyond 0 and 1, which neither one loud batch nor inputs as loud explain."""
    data = e.data
    if data is None or data.outside is None or data.loud_batches or (data.loudest_ratio or 0) >= LOUD_RMS:
        return False
    return (data.rms or 0) < LOUD_RMS


def all_ignored(bad: Bad) -> bool:
    """NaN out of finite scores and whole-number targets: such a loss divides by the labels that count, by none here."""
    if bad.op is not None and bad.op.endswith("_loss") and any(o.count == 0 for o in bad.given()):
        return True
    scores, target = bad.operand("self", "input"), _classes(bad)
    if bad.op not in ("cross_entropy", "nll_loss") or bad.kind != "nan" or bad.phase not in ("loss", "forward"):
        return False
    return scores is not None and scores.finite and target is not None and target.dtype.startswith("int")


def _over_nothing(e: Evidence, bad: Bad) -> bool:
    """The logarithms of the chances are no NaN, a label that picks -inf would cost +inf: what is left is 0 / 0."""
    chances = bad.operand("result")
    if bad.op not in ("cross_entropy", "nll_loss") or bad.phase != "loss" or bad.masked_rows or chances is None:
        return False
    nan = e.loss is not None and any(step == bad.step and math.isnan(loss) for step, loss in e.loss.before_failure)
    rows = max(chances.rows or 1, 1)
    each = (chances.count or 0) // rows  # -inf: places that a mask leaves out, never a whole row
    return nan and chances.nan == 0 and each > 1 and chances.inf <= rows * (each - 1)


def _classes(bad: Bad) -> Operand | None:
    """What the scores were compared with: by its role, or the one operand of whole numbers."""
    whole = [operand for operand in bad.given() if operand.dtype.startswith("int")]
    return bad.operand("target") or (whole[0] if len(whole) == 1 else None)


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    high = e.data.labels_high if e.data else None
    change = (
        f"outputs of the model: at least {high + 1:.0f}" if high is not None and high >= 0 else "map labels to 0..C-1"
    )
    first = Remedy(
        "Make labels and outputs agree",
        f"{change}; labels below 0 only as ignore_index",
        "nan-guide",
        "data",
        "assert labels.min() >= 0 and labels.max() < num_classes",
    )
    ignore = Remedy(
        "Leave out batches without a label",
        "skip a batch whose every label is ignored: its mean loss is 0 / 0",
        "https://docs.pytorch.org/docs/stable/generated/torch.nn.CrossEntropyLoss.html",
        "data",
        "if (labels != -100).sum() == 0: continue",
    )
    missing = Remedy(
        "Leave out targets that are missing",
        "the loss over the targets that are there; a NaN among them makes all of it NaN",
        "nan-guide",
        "data",
        "there = torch.isfinite(y); loss = criterion(output[there], y[there])",
    )
    others = (nan_guide.scan_data, nan_guide.labels, monash_stability.validate_data, nan_guide.skip_bad_loss)
    ladder = (first, ignore, missing)
    if e.bad is not None and e.bad.phase == "input":
        ladder = (missing, first, ignore)
    elif e.crash is None and e.bad is not None and (all_ignored(e.bad) or (e.data is not None and e.data.all_ignored)):
        ladder = (ignore, first, missing)
    return (*ladder, *(remedy(e) for remedy in others))


CAUSE = Cause("bad-labels", "Labels out of range, NaN or all ignored", __doc__, judge, remedies)
