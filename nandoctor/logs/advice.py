"""Remedies for a finding from a log: the cause's own, with what only the log's course tells put first."""

from dataclasses import replace

from nandoctor.causes import CAUSES
from nandoctor.causes.cause import Remedy
from nandoctor.causes.remedies import monash_stability, nan_guide, nan_root_cause, repair_not_skip
from nandoctor.causes.treatments import LEARNING_RATE
from nandoctor.evidence import Evidence
from nandoctor.logs import alarms
from nandoctor.logs.course import NORM_HIGH, Course
from nandoctor.logs.symptoms import BATCHNORM, GRADIENTS, LR, MIDDLE, OUTLIER, QUICK

BY_ID = {cause.id: cause for cause in CAUSES}
SAID_OF_A_TRACE = (("this trace", "this log"), (" (now: no clipping)", ""), ("the trace", "the log"))


def remedies(name: str, c: Course, e: Evidence) -> tuple[Remedy, ...]:
    """The first of each title counts."""
    first = [*_of_the_course(name, c, e)]
    every = [*first, *(_for_a_log(remedy) for remedy in BY_ID[name].remedies(e))]
    return tuple({remedy.title: remedy for remedy in reversed(every)}[title] for title in _titles(every))


def _titles(remedies: list[Remedy]) -> list[str]:
    return list(dict.fromkeys(remedy.title for remedy in remedies))


def _of_the_course(name: str, c: Course, e: Evidence) -> list[Remedy]:
    found: list[Remedy] = []
    if name == LR and c.lr is None and c.failed:
        found.append(_rate_by_epoch(c))
    if c.train is None and c.validation is not None:
        found.append(_scan_validation(e))
    if name == BATCHNORM:
        found.append(_drop_last())
    if c.burst and name in (GRADIENTS, OUTLIER, LR):
        ladder = (monash_stability.loss_cap, monash_stability.normalise)
        found += [_for_a_log(remedy(e)) for remedy in (ladder if name != OUTLIER else ladder[::-1])]
    if name == GRADIENTS and c.peak_norm is not None and c.peak_norm > NORM_HIGH:
        found = [_for_a_log(nan_guide.clip_one(e)), _for_a_log(nan_root_cause.adaptive_clip(e)), *found]
    if c.zeroed:
        found.append(_unfiltered())
    if c.skips_often and c.counts.get(alarms.WEIGHT):
        found += [repair_not_skip.repair_weights(e)]
    return found


def _rate_by_epoch(c: Course) -> Remedy:
    """nan-guide's table, for a log that does not tell the rate."""
    epoch = c.train.epoch if c.train else None
    if epoch is not None and MIDDLE[0] <= epoch <= MIDDLE[1]:
        change = f"to 5e-5 (NaN in epoch {epoch}; the guide for epochs 10-20); half of what it is where that is lower"
    elif epoch is not None and epoch <= QUICK:
        change = f"to 1e-5 or 5e-6 (NaN in epoch {epoch}; the guide for epochs 1-3); a tenth of an lr far above 1e-4"
    elif epoch is not None:
        change = f"to 5e-5, then 1e-5 (NaN in epoch {epoch}, between the guide's epochs 1-3 and 10-20)"
    else:
        change = "to a tenth of what it is (the guide: 1e-5 for NaN in epochs 1-3, 5e-5 for epochs 10-20)"
    return Remedy("Lower the learning rate", change, nan_guide.SOURCE, LEARNING_RATE)


def _scan_validation(e: Evidence) -> Remedy:
    scan = nan_guide.scan_data(e)
    change = "every tensor of every validation batch for NaN/Inf; then the model's output on it, in eval mode"
    return replace(scan, title="Scan the validation data", change=change, code=None)


def _drop_last() -> Remedy:
    return Remedy(
        "Leave out the odd last batch",
        "drop_last=True: where validation fails before training, look at the last batch of the epoch first",
        nan_guide.SOURCE,
        None,
        "DataLoader(dataset, batch_size=batch_size, shuffle=True, drop_last=True)",
    )


def _unfiltered() -> Remedy:
    return Remedy(
        "Let Trainer show NaN as NaN",
        "logging_nan_inf_filter False: by default it leaves NaN out of the mean that it prints",
        nan_guide.SOURCE,
        None,
        "TrainingArguments(..., logging_nan_inf_filter=False)",
    )


def _for_a_log(remedy: Remedy) -> Remedy:
    """A trace knows whether the run clips; a log does not."""
    change = remedy.change
    for was, now in SAID_OF_A_TRACE:
        change = change.replace(was, now)
    return replace(remedy, change=change)
