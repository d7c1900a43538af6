"""A batch holds NaN or Inf.

What happens
    One non-finite number in an input batch passes through every layer and makes
    the loss NaN. Without a guard the next optimizer step writes NaN into every
    weight, and nothing recovers.

How to tell it from its neighbours
    unsafe-op also ends in NaN at a moment when nothing else is wrong; there the
    operation's operands are finite, here the batch itself is not. In data-outlier
    the numbers are wild but finite. In bad-labels it is the target that is wrong.

What to do
    Find the row that the report names and repair or drop it where the data are
    prepared. Scan every batch once before training. A guard that skips the batch
    keeps the run alive until then.

Sources
    nan-guide (data check), monash-stability (validation), repair-not-skip
"""

from ..evidence import Bad, Evidence
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .domains import made_in_half
from .remedies import monash_stability, nan_guide, nan_root_cause, repair_not_skip
from .targets import beside, is_target

CERTAIN = 0.97  # provenance: the value was seen in the batch, before any operation
SEEN = 0.9  # among the model's inputs, where the operation's own operands were not
DERIVED = 0.8  # a product is bad, and one of its factors is not
TARGET = 0.6  # the same in a target, or made in half: another cause says it better


def judge(e: Evidence) -> Answer:
    bad = e.bad
    if bad is not None and bad.phase != "input":
        return _given(e, bad)
    if bad is None:
        return None
    also = beside(bad, e)
    target = is_target(bad, e) and bad.kind == "nan" and also is None
    half = made_in_half(bad)
    what = f"{place(bad)} holds {bad.kind or 'NaN or Inf'}"
    facts = [Fact(what, bad.kind, step=bad.step)]
    if also is not None:
        facts.append(Fact(f"{also}, which the model is given, holds such values, too", also))
    if e.data and e.data.bad_batches:
        facts.append(
            Fact(
                f"{e.data.bad_batches} of {e.data.batches} recorded batch tensors hold NaN or Inf",
                e.data.bad_batches,
                0,
            )
        )
    against = ("the tensor looks like a target, not an input: see bad-labels",) if target else ()
    if half:
        against = ("the program made it itself, in float16: see fp16-overflow",)
    return Verdict(TARGET if target or half else CERTAIN, f"At step {bad.step} {what}.", tuple(facts), against)


def _given(e: Evidence, bad: Bad) -> Answer:
    """The birth was found in an operation, but what the model was given there held the value already."""
    since = e.data.inputs_bad_from if e.data is not None else None
    if since is not None and since <= bad.step and bad.phase in ("forward", "loss") and not bad.given():
        what = "the model was given NaN or Inf"
        return Verdict(SEEN, f"At step {since} {what}.", (Fact(what, step=since),))
    fed = e.gradients.fed_bad if e.gradients is not None else None
    if fed is not None and bad.phase == "backward" and bad.op is None:
        what = f"the gradient of {fed} alone is {bad.kind or 'not finite'}: it is the next gradient, which is finite, "
        what += "times the input"
        return Verdict(DERIVED, f"At step {bad.step} {what}.", (Fact(what, bad.kind, step=bad.step, layer=fed),))
    return None


def place(bad: Bad) -> str:
    """tensor 0, row 17, index 3 of batch 12."""
    parts = [f"tensor {bad.tensor}" if bad.tensor is not None else "the batch"]
    if bad.row is not None:
        parts.append(f"row {bad.row}")
    if bad.index is not None:
        parts.append(f"index {bad.index}")
    return ", ".join(parts) + (f" of batch {bad.batch}" if bad.batch is not None else "")


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    bad = e.bad
    name = place(bad) if bad else "the batch"
    repair = Remedy(
        "Repair or drop this row",
        f"{name}: replace it by a finite value, or leave the row out",
        nan_guide.SOURCE,
        "data",
        "x = torch.nan_to_num(x, nan=0.0, posinf=0.0, neginf=0.0)",
    )
    others = (
        nan_guide.scan_data,
        monash_stability.validate_data,
        nan_root_cause.check_inputs,
        nan_guide.skip_bad_loss,
        repair_not_skip.repair_outputs,
        monash_stability.nan_guard,
        nan_guide.start_over,
    )
    return (repair, *(remedy(e) for remedy in others))


CAUSE = Cause("bad-input-data", "A batch holds NaN or Inf", __doc__, judge, remedies)
