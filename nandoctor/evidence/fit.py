"""How far the model is better than one constant answer for everything, by the terms of its loss that are understood."""

import math
from dataclasses import dataclass

import numpy as np

from ..trace.trace import Rows, Trace
from .series import Series, median, per_step
from .sizes import elements, root_mean_square

FEW = 8  # looks: one batch's chance is noise
TOGETHER = 0.9  # correlation of logarithms over the looks; 1 where the term is the loss
MOST = 0.9  # of the losses are positive: an error; else a likelihood, which may be anything
MOVES = 3.0  # times: data keep their spread, predictions that serve as targets do not
END = 20  # the last part in so many of the losses
BLOCK = 5  # looks whose mean is a level
RECENT = 0.75  # of the run: looks behind it say how it ended
ROUNDING = 0.01  # half precision, and a weight decay in the loss
SPIKE = 10.0  # times the median
LAST = 20  # losses whose mean is the end


@dataclass(frozen=True)
class Fit:
    """1: as good as a constant answer, 0: perfect, above 1: worse than knowing nothing."""

    looks: int
    start: float  # mean of the first block
    end: float  # median of the last looks
    best: float  # lowest mean of a block
    alone: bool  # the term is the whole loss, but for what is next to nothing
    beside: bool  # something is added to it, however small
    noise: float  # standard error of what a constant answer costs, relative
    first_over: float | None  # first error / that of an untrained model whose answers are near 0, E23


def gather(trace: Trace, losses: Series) -> Fit | None:
    """None where the terms that are understood are not what the loss goes with."""
    rows = trace.rows("fit")
    rows = rows[np.isfinite(rows["value"]) & np.isfinite(rows["divisor"])]
    own = per_step(rows["step"], rows["value"] * rows["divisor"])
    chance = per_step(rows["step"], rows["divisor"])
    whole = len(rows) > 0 and bool((rows["of"] == 1).all())  # nothing is added to it: the loss, but for a shift
    goes = len(own) >= FEW and _is_the_loss(own, losses)
    if len(own) < FEW or not (goes or whole):
        return None
    middle = len(chance) // 2
    early, late = median(chance.values[:middle]) or 0.0, median(chance.values[middle:]) or 0.0
    if not early < MOVES * late or not late < MOVES * early:  # targets that the model makes itself
        return None
    with np.errstate(all="ignore"):
        ratios = Series(own.steps, own.values / chance.values)
    usual = float(chance.values[chance.values <= SPIKE * (late + early)].mean())  # as _end leaves them out
    blocks = np.array_split(ratios.values, max(1, len(ratios) // BLOCK))
    recent = own.steps[-BLOCK] >= RECENT * losses.steps[-1]  # a batch's own chance is no noise, as that of a loss is
    low, high = np.quantile(chance.values, [0.1, 0.9])
    if not goes and own.steps[-1] < RECENT * losses.steps[-1]:  # the loss does not tell what came after the looks
        return None
    if recent or not goes:
        end = float(blocks[-1].mean())
    elif high > MOVES * low:  # batches differ by nature: the calm ones of the end say nothing of the others
        half = losses.values[len(losses) // 2 :]
        end = (_share(own, losses) or math.nan) * float(half.mean()) / float(chance.values.mean())
    else:
        end = _end(own, losses) / usual
    return Fit(
        looks=len(ratios),
        start=float(blocks[0].mean()),
        end=end,
        best=min([end, *(float(block.mean()) for block in blocks)]),
        alone=whole or _alone(own, losses),
        beside=bool((trace.rows("fit")["of"] > 1).any()),
        noise=float(chance.values.std()) / usual / math.sqrt(len(chance)),
        first_over=_first_over(trace, trace.rows("fit")),
    )


def best_term(trace: Trace) -> float | None:
    """Of several terms of a loss, each measured against a constant answer for its own targets, the one that is learned
    best: its error at the last looks. Terms are told apart by their order within a step.
    """
    rows = trace.rows("fit")
    rows = rows[np.isfinite(rows["value"]) & np.isfinite(rows["divisor"]) & (rows["divisor"] > 0)]
    _, starts, counts = np.unique(rows["step"], return_index=True, return_counts=True)
    usual = int(np.median(counts)) if len(counts) else 0
    whole = starts[counts == usual]
    if usual < 2 or len(whole) < 2 * FEW:
        return None
    found = []
    for place in range(usual):
        values, chance = rows["value"][whole + place], rows["divisor"][whole + place]
        early, late = float(np.median(chance[:FEW])), float(np.median(chance[-FEW:]))
        if early < MOVES * late and late < MOVES * early and float(np.median(values[:FEW])) >= TOGETHER:
            found.append(float(np.median(values[-FEW:])))
    return min(found, default=None)


def _share(own: Series, losses: Series) -> float | None:
    """Of the term in the loss: the median over the looks."""
    then = np.array([losses.at(int(step)) or math.nan for step in own.steps])
    with np.errstate(all="ignore"):
        return median(own.values / then)


def _alone(own: Series, losses: Series) -> bool:
    """The loss is the term, or always the same part or multiple of it: divided to accumulate gradients, weighted."""
    then = np.array([losses.at(int(step)) or math.nan for step in own.steps])
    with np.errstate(all="ignore"):
        shares = own.values / then
    shares = shares[np.isfinite(shares)]
    if len(shares) < FEW:
        return False
    low, middle, high = np.quantile(shares, [0.1, 0.5, 0.9])
    return bool(middle > 0 and high - low < ROUNDING * middle)


def _end(own: Series, losses: Series) -> float:
    """The term at the end of the run: the last looks may lie far before it, the loss is known at every step."""
    last = losses.values[-max(LAST, len(losses) // END) :]
    usual = last[last <= SPIKE * (median(last) or 0.0)]  # one loud batch is not the end
    if not (losses.values > 0).mean() >= MOST:  # a likelihood without what the best answer costs: shifted, not a share
        then = np.array([losses.at(int(step)) or math.nan for step in own.steps])
        known = np.isfinite(then) & np.isfinite(own.values)
        slope, level = np.polyfit(then[known], own.values[known], 1)
        return float(slope * last.mean() + level)
    share = _share(own, losses)
    return share * float(usual.mean()) if share is not None and len(usual) else math.nan


def _is_the_loss(own: Series, losses: Series) -> bool:
    _, left, right = np.intersect1d(own.steps, losses.steps, return_indices=True)
    x, y = own.values[left], losses.values[right]
    known = np.isfinite(x) & np.isfinite(y)
    if int(known.sum()) < FEW:
        return False
    x, y = x[known], y[known]
    positive = (x > 0) & (y > 0)
    if positive.mean() >= MOST:
        x, y = np.log(x[positive]), np.log(y[positive])
    return bool(x.std() > 0 and y.std() > 0 and np.corrcoef(x, y)[0, 1] >= TOGETHER)


def _first_over(trace: Trace, rows: Rows) -> float | None:
    """An untrained model answers near 0: its squared error is the mean square of the targets, its cross entropy that
    of as many equal chances as there are classes. What a constant answer costs may be far less than that.
    """
    if len(rows) == 0:
        return None
    first = rows[rows["step"] == rows["step"][0]]
    usual = _untrained(trace, int(first["step"][0]))
    with np.errstate(all="ignore"):
        over = first["value"] * first["divisor"] / np.maximum(first["divisor"], usual)
    return float(over.max()) if np.isfinite(over).all() else None


def _untrained(trace: Trace, step: int) -> float:
    targets, labels = trace.rows("target"), trace.rows("labels")
    targets = targets[targets["step"] == step]
    high = labels["high"][np.isfinite(labels["high"])]
    with np.errstate(all="ignore"):
        squares = targets["norm"] ** 2 / elements(trace, targets["shape"])
    found = [float(s) for s in squares if math.isfinite(s)]
    if len(high) and high.max() >= 1:
        found.append(math.log(float(high.max()) + 1))
    return max([*found, math.log(2) if len(targets) and targets["high"].max() <= 1 else 0.0])


def sizes(trace: Trace) -> Series:
    """rms of the float targets by step, the largest."""
    rows = trace.rows("target")
    return per_step(rows["step"], root_mean_square(trace, rows), "max")
