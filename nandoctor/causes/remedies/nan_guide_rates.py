"""[nan-guide]'s table: the learning rate, adjusted step by step by what the run shows."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num
from . import code_lines
from .this_run import of_the_guides_order, rate, rounded

SOURCE = "nan-guide"
FAST_EPOCHS = 3  # "NaN quickly (epochs 1-3)"
FAST_SHARE = 0.06  # where there are no epochs: 3 of the guide's 50
FAST, MIDDLE = (1e-5, 5e-6), (5e-5, 1e-5, 5e-6)  # its values, the mildest first; the first that halves lr is taken
# update ratio before onset -> divisor, towards 1 to 3 %; in the study /10 cured 23 of 23
BY_RATIO = ((30.0, 1000.0), (3.0, 100.0), (0.3, 30.0), (0.0, 10.0))
TOO_HOT = 3.0  # more than the guide's own divisors, 10 and 20, bring to 1 to 3 %
SLOW, TRY = 1e-4, 2e-4  # "stable, converging slowly", "stable throughout: may try"
AIM = 1e-3  # update ratio of a run that learns: between p10 and p90 of healthy ones (0.0005 to 0.0041)
MOST = 1000.0  # a raise beyond it is a guess
HIGHEST = {True: 0.01, False: 1.0}  # of an adaptive optimizer, of SGD: beyond it no rate is too low
SLOWLY = 2.0  # 5e-5 -> 1e-4 and 1e-4 -> 2e-4 both double


def lower_lr(e: Evidence) -> Remedy:
    """The guide's table where the run's lr is of that order, else a factor by the size of the updates."""
    lr = rate(e)
    if lr is None:
        change = "lr: a tenth of what it is; 1e-05 for an AdamW run that fails in its first epochs"
        return _lower(e, change, "lr = lr / 10")
    new, why = _target(e, lr)
    return _lowered(e, lr, new, why)


def _lowered(e: Evidence, lr: float, new: float, why: str) -> Remedy:
    change = f"{num(lr)} -> {num(new)} ({why})"
    if e.optimizer and e.optimizer.hot_group:
        return _lower(e, f"lr of group {e.optimizer.hot_group}: {change}", f"{{'params': ..., 'lr': {num(new)}}}")
    peak = e.optimizer.lr_peak if e.optimizer else None
    if e.style.schedule or e.style.groups > 1 or (e.optimizer is not None and e.optimizer.optimizers > 1):
        raised = f"; the schedule's peak {num(peak)} by the same factor" if peak is not None and peak > lr else ""
        return _lower(e, f"lr {change}{raised}", code_lines.scaled_rates(e, rounded(new / lr)))
    return _lower(e, f"lr {change}", code_lines.optimizer(e, new))


def lowered(e: Evidence) -> float | None:
    """What lower_lr advises; None where the run's rate is not known."""
    lr = rate(e)
    return None if lr is None else _target(e, lr)[0]


def _lower(e: Evidence, change: str, code: str) -> Remedy:
    covers: tuple[str, ...] = ("learning rate (5e-5 or lower)",)
    covers += ("NaN quickly (epochs 1-3)",) if "1e-5 or 5e-6" in change else ()
    covers += ("NaN in mid-training (epochs 10-20)",) if "5e-5" in change else ()
    return Remedy("Lower the learning rate", change, SOURCE, treatments.LEARNING_RATE, code, covers)


def _target(e: Evidence, lr: float) -> tuple[float, str]:
    ratio = e.optimizer.hottest_ratio or e.optimizer.update_ratio_first or 0.0 if e.optimizer else 0.0
    if of_the_guides_order(lr) and ratio < TOO_HOT:
        quick, when = _when(e)
        if quick:
            hot = ratio >= BY_RATIO[2][0]
            return _first_that_halves(FAST[1:] if hot else FAST, lr), f"{when}: 1e-5 or 5e-6"
        return _first_that_halves(MIDDLE, lr), f"{when}: 5e-5"
    divisor = next((by for least, by in BY_RATIO if ratio >= least), BY_RATIO[-1][1])
    return rounded(lr / divisor), f"a factor {num(divisor)}; the guide's own rates are for runs near 1e-4"


def _first_that_halves(values: tuple[float, ...], lr: float) -> float:
    return next((value for value in values if value <= lr / 2), rounded(lr / 10))


def _when(e: Evidence) -> tuple[bool, str]:
    """Quickly, or in mid-training; epochs count from 1 in the guide, from 0 in a trace."""
    bad = e.bad
    if bad is None:
        return True, "no NaN was seen; as the guide for NaN in epochs 1-3"
    if bad.epoch is not None and bad.epoch >= 0:
        seen = f"NaN in epoch {bad.epoch + 1}"
        if bad.epoch < FAST_EPOCHS:
            return True, f"{seen}; the guide for epochs 1-3"
        return False, f"{seen}; the guide for epochs 10-20"
    total = e.style.total
    if total and bad.step > FAST_SHARE * total:
        return False, f"NaN at step {bad.step} of {total}; the guide for epochs 10-20 of 50"
    return True, f"NaN at step {bad.step}; the guide for epochs 1-3"


def higher_lr(e: Evidence) -> Remedy:
    """For a run that is stable and converges slowly, or not at all."""
    lr = rate(e)
    if lr is not None and of_the_guides_order(lr) and lr < SLOW and lr * _raise_by(e) <= SLOW:
        return _raised(e, lr, SLOW, "stable, converging slowly: 1e-4", "stable, converging slowly")
    if lr is not None and of_the_guides_order(lr) and lr < TRY and not _hardly_moves(e):
        return try_higher(e)
    if lr is None:
        change, covers = "lr: twice what it is (the guide: 5e-5 -> 1e-4)", ("stable, converging slowly",)
        return Remedy("Raise the learning rate", change, SOURCE, treatments.LEARNING_RATE, "lr = lr * 2", covers)
    factor = _raise_by(e)
    why = f"a factor {num(factor)}; stable, converging slowly: the guide doubles 5e-5"
    return _raised(e, lr, rounded(lr * factor), why, "stable, converging slowly")


def raised(e: Evidence) -> float | None:
    """What higher_lr advises; None where the run's rate is not known, or updates have their usual size."""
    lr = rate(e)
    new = None if lr is None or not _hardly_moves(e) else rounded(lr * _raise_by(e))
    highest = HIGHEST[e.optimizer is not None and e.optimizer.adaptive]
    return new if new is not None and new <= highest else None  # then the gradient is small, not the rate


def try_higher(e: Evidence) -> Remedy:
    """For a run that was stable throughout."""
    lr = rate(e)
    if lr is None or not of_the_guides_order(lr) or lr >= TRY:
        new = rounded(lr * SLOWLY) if lr else TRY
        return _raised(e, lr, new, "stable throughout: may try twice, as the guide 2e-4 for 1e-4", "stable throughout")
    return _raised(e, lr, TRY, "stable throughout: may try 2e-4", "stable throughout")


def _moves(e: Evidence) -> float | None:
    """Update against weight before onset; of a run without one, at the start."""
    if e.optimizer is None:
        return None
    return e.optimizer.update_ratio if e.optimizer.update_ratio is not None else e.optimizer.update_ratio_first


def _hardly_moves(e: Evidence) -> bool:
    ratio = _moves(e)
    return ratio is not None and ratio < AIM / 10


def _raise_by(e: Evidence) -> float:
    """Towards updates of a thousandth of the weights; twice where their size is not known or ordinary."""
    ratio = _moves(e)
    if ratio is None or not ratio > 0:
        return SLOWLY
    return min(MOST, max(SLOWLY, rounded(AIM / ratio)))


def _raised(e: Evidence, lr: float | None, new: float, why: str, covers: str) -> Remedy:
    change = f"lr {num(lr)} -> {num(new)} ({why})" if lr is not None else f"lr {num(new)} ({why})"
    scheduled = e.style.schedule or e.style.groups > 1
    code = code_lines.scaled_rates(e, rounded(new / lr)) if lr and scheduled else code_lines.optimizer(e, new)
    return Remedy("Raise the learning rate", change, SOURCE, treatments.LEARNING_RATE, code, (covers,))
