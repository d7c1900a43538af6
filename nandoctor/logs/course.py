"""How a logged run went: where it failed, whether it blew up, swung or stood still. Facts, from one table."""

import math
from dataclasses import dataclass

import numpy as np

from nandoctor.logs import alarms
from nandoctor.logs.table import Floats, Log

FEWEST = 5  # losses: four lines may be the noise of batches, and show no trend
CAP = 1e6  # monash-stability's cap of a loss
BURST = 1e3  # times the usual loss: with CAP, one such line is no noise of batches
JUMP = 4.0  # as the onset rule of traces: four times the usual has left its path
RUN_UP = 3  # rising values in a row before a failure: three by chance are one in six, with JUMP far fewer
CALM = 2.0  # the last values before a failure stayed within this factor of the usual
NORM_HIGH = 10.0  # nan-root-cause: above it the ladder halves lr
SPIKE = 10.0  # gradient norm against its usual
OFTEN = 0.01  # of the logged batches were skipped: monash-stability expects abnormal batches to be rare
SEVERAL = 3  # and as many at least
BY_DESIGN = 24  # skips of a GradScaler until its scale fits: 2^24 needs so many halvings
STUCK_NORMS = 3  # norms in a row, at the end, that are not finite: no scale that settles
LONG = 20  # losses before "it swings" or "it stands still" means anything
WON_LITTLE = 0.02  # of the first loss
WIDE = 3.0  # 90th percentile over 10th of the second half: a swing, not the noise of batches
TURNS = 0.4  # of the changes reverse the one before; 2/3 in pure noise, 0 in a trend
GUESSES = tuple(range(2, 1001))  # classes whose ln(n) is the loss of guessing
CLOSE = 0.01  # of ln(n)
SILENT = 1e-6  # gradient norm: nothing moves


@dataclass(frozen=True)
class Failure:
    """A value that is not finite, in one column."""

    place: int  # row
    kind: str  # nan, inf
    step: int | None
    epoch: int | None
    before: tuple[float, ...]  # the last finite values
    recovered: bool  # finite again at the end


@dataclass(frozen=True)
class Course:
    """None: not seen, or not in this log."""

    log: Log
    losses: Floats
    validations: Floats
    norms: Floats
    train: Failure | None
    validation: Failure | None
    norm: Failure | None  # norms that stayed non-finite: no scale that settles
    zeroed: bool  # Trainer wrote 0 where the loss was NaN
    usual: float | None  # median of the finite losses before the failure
    peak: float | None  # largest finite loss
    peak_at: int | None
    burst: bool  # one or more batches exploded: 8693482495410176 among ordinary values
    diverged: bool  # ended finite, far above its start
    rising: int  # values in a row that rose before the failure, or before the end of a run that diverged
    leap: float | None  # growth in a single step of it, where each step was logged
    calm: bool  # nothing announced the failure
    usual_norm: float | None
    peak_norm: float | None
    lr: float | None  # at the failure, else the last
    counts: dict[str, int]  # warnings by what they say
    skipped: int  # batches
    stands: float | None  # share of the first loss that was won, where that is next to nothing
    guessing: int | None  # classes of which the level of the loss is what guessing gives
    swings: float | None  # width of the swing, where nothing is won by it

    @property
    def per_epoch(self) -> bool:
        """One loss for each epoch: a mean, in which a single NaN batch is the whole epoch."""
        epochs = [self.log.epochs[place] for place in self.log.known("train")]
        return len(epochs) > 0 and None not in epochs and len(set(epochs)) == len(epochs)

    @property
    def failed(self) -> bool:
        stuck = self.train is not None or self.validation is not None or self.norm is not None
        return stuck or self.burst or self.diverged or self.skips_often or self.counts.get(alarms.WEIGHT, 0) > 0

    @property
    def skips_often(self) -> bool:
        return self.skipped >= max(SEVERAL, OFTEN * len(self.losses))


def course_of(log: Log) -> Course:
    places = log.known("train")
    losses, validations = log.column("train")[places], log.column("validation")[log.known("validation")]
    norms = _norms(log)
    zeroed = _zeroed(log)
    train = _failure(log, "train", zeroed)
    until = losses if train is None else log.column("train")[places[places < train.place]]
    finite = until[np.isfinite(until)]
    every = losses[np.isfinite(losses)]
    peak = float(np.abs(every).max()) if len(every) else None
    usual = float(np.median(finite)) if len(finite) else None
    diverged = train is None and _diverged(finite)
    rising = _rising(finite)
    counts: dict[str, int] = {}
    for _, warning in log.warnings:
        counts[warning.what] = counts.get(warning.what, 0) + 1
    known = norms[np.isfinite(norms)]
    scaling = counts.get(alarms.SCALE, 0)
    fallen = train is not None or diverged
    return Course(
        log=log,
        losses=losses,
        validations=validations,
        norms=norms,
        train=train,
        validation=_failure(log, "validation", np.zeros(0, np.int64)),
        norm=_stuck_norm(log),
        zeroed=len(zeroed) > 0,
        usual=usual,
        peak=peak,
        peak_at=int(places[int(np.argmax(np.where(np.isfinite(losses), np.abs(losses), -1)))]) if len(every) else None,
        burst=peak is not None and usual is not None and peak > CAP and peak > BURST * abs(usual),
        diverged=diverged,
        rising=rising,
        leap=_leap(log, places[: len(finite)], finite, rising),
        calm=fallen and len(finite) >= 3 and bool((np.abs(finite[-2:]) <= CALM * abs(float(np.median(finite)))).all()),
        usual_norm=float(np.median(known)) if len(known) else None,
        peak_norm=float(known.max()) if len(known) else None,
        lr=_lr(log, train),
        counts=counts,
        skipped=sum(w.skipped and w.what != alarms.SCALE for _, w in log.warnings)
        + (scaling if scaling > max(BY_DESIGN, OFTEN * len(losses)) else 0),
        stands=_stands(finite) if not log.rivals else None,
        guessing=_guessing(finite),
        swings=_swings(finite) if not log.rivals else None,
    )


def _norms(log: Log) -> Floats:
    logged = log.column("norm")[log.known("norm")]
    warned = [w.norm for _, w in log.warnings if w.norm is not None]
    return np.concatenate([logged, np.array(warned, np.float64)])


def _zeroed(log: Log) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Rows of Hugging Face's Trainer with a loss of exactly 0 beside a gradient norm that is not finite."""
    if not log.said.filtered:
        return np.zeros(0, np.int64)
    wrong = [n for n, r in enumerate(log.rows) if r.train == 0 and r.norm is not None and not math.isfinite(r.norm)]
    return np.array(wrong, np.int64)


def _failure(log: Log, name: str, zeroed: np.ndarray[tuple[int], np.dtype[np.int64]]) -> Failure | None:
    places, values = log.known(name), log.column(name)
    wrong = ~np.isfinite(values[places]) | np.isin(places, zeroed)
    if not wrong.any():
        return None
    first = int(np.flatnonzero(wrong)[0])
    place = int(places[first])
    value = values[place]
    kind = "inf" if math.isinf(value) else "nan"
    told = values[places[:first]]
    fresh = told[np.append(True, told[1:] != told[:-1])] if len(told) else told  # a bar repeats what it knows
    before = tuple(float(v) for v in fresh[-4:])
    return Failure(place, kind, log.rows[place].step, log.epochs[place], before, not bool(wrong[-1]))


def _stuck_norm(log: Log) -> Failure | None:
    """Single norms that are not finite are a GradScaler's way to find its scale."""
    places, values = log.known("norm"), log.column("norm")
    bad = ~np.isfinite(values[places])
    if len(bad) < STUCK_NORMS or not bad[-STUCK_NORMS:].all():
        return None
    good = np.flatnonzero(~bad)
    first = int(good[-1]) + 1 if len(good) else 0
    place = int(places[first])
    kind = "inf" if math.isinf(values[place]) else "nan"
    return Failure(place, kind, log.rows[place].step, log.epochs[place], tuple(values[places[:first]][-4:]), False)


def _diverged(values: Floats) -> bool:
    if len(values) < FEWEST:
        return False
    tail = max(2, len(values) // 10)
    first, end = float(np.median(values[:2])), float(np.median(values[-tail:]))
    return (
        first > 0
        and end > JUMP * max(first, float(np.median(values[: max(2, len(values) // 2)])))
        or (first > 0 and end > CAP and float(values[-tail:].min()) > JUMP * first)
    )


def _rising(values: Floats) -> int:
    """How many values in a row rose up to the last one, together by more than JUMP."""
    count = 0
    while count + 1 < len(values) and values[-1 - count] > values[-2 - count]:
        count += 1
    start = values[-1 - count] if len(values) else 0.0
    return count if count >= 1 and start > 0 and values[-1] > JUMP * start else 0


def _leap(log: Log, places: np.ndarray[tuple[int], np.dtype[np.int64]], values: Floats, rising: int) -> float | None:
    """The largest growth from one step to the very next within the rise, from BURST on."""
    largest = 0.0
    for n in range(len(values) - rising, len(values)):
        before, now = log.rows[int(places[n - 1])].step, log.rows[int(places[n])].step
        if before is not None and now == before + 1 and values[n - 1] > 0:
            largest = max(largest, float(values[n] / values[n - 1]))
    return largest if largest >= BURST else None


def _lr(log: Log, failure: Failure | None) -> float | None:
    places = log.known("lr")
    if failure is not None and (places <= failure.place).any():
        places = places[places <= failure.place]
    return float(log.column("lr")[places[-1]]) if len(places) else None


def _stands(values: Floats) -> float | None:
    """From the medians of the first and the last tenth; a level far above the noise of both."""
    if len(values) < LONG or values[0] <= 0:
        return None
    part = max(3, len(values) // 10)
    first, end = float(np.median(values[:part])), float(np.median(values[-part:]))
    won = (first - end) / first
    best = (first - float(np.median(np.sort(values)[:part]))) / first
    level = float(np.quantile(values, 0.9)) <= 1.5 * float(np.quantile(values, 0.1))
    return won if level and abs(won) < WON_LITTLE and best < 10 * WON_LITTLE else None


def _guessing(values: Floats) -> int | None:
    if len(values) < FEWEST:
        return None
    level = float(np.median(values[len(values) // 2 :]))
    return next((n for n in GUESSES if abs(level - math.log(n)) <= CLOSE * math.log(n)), None) if level < 5 else None


def _swings(values: Floats) -> float | None:
    """Up and down by WIDE in the second half, without having won anything since the first."""
    if len(values) < LONG or (values <= 0).any():
        return None
    half = len(values) // 2
    late, early = values[half:], values[:half]
    wide = float(np.quantile(late, 0.9) / np.quantile(late, 0.1))
    changes = np.diff(late)
    turns = float((changes[1:] * changes[:-1] < 0).mean()) if len(changes) > 1 else 0.0
    stays = float(np.median(late)) >= 0.8 * float(np.median(early))  # a fifth: less than any training wins in a half
    return wide if wide >= WIDE and turns >= TURNS and stays else None
