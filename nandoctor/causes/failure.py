"""Did anything fail at all? Asked before any statistic: what looks scary and recovered is healthy."""

import math

from ..evidence import Evidence

JUMP = 4.0  # onset rule of the study: 4 times the usual loss has left its path
HUGE = 1e4  # so far above the start that no reward, no GAN and no changing data explains it
HOT_RATIO = 0.03  # updates against weights before onset: study's lr-too-high p10 is 0.036, healthy p90 0.0041
BACK = 0.95  # an end above 95 % of the first loss has won nothing
FAR, HALF_WAY = 100.0, 0.5  # after a blow-up of a hundredfold, half of the first loss has won nothing either
ORDINARY_LOUDNESS = 3.0  # largest output at onset against its median before
RUINED = 1e6  # growth of all weights: saturated units may hide from the loss what no training makes
LONG_ENOUGH = 20  # steps after which a blow-up should have recovered; fewer are the noise of batches
FEW = 5  # steps that even a loss far above its start needs to be more than one strange batch
ABOVE = 2.0  # a trend: the second half never came nearer to the first loss than this
SETTLED = 0.05  # of the way from the first loss to the best: an end within it is at the bottom


def non_finite(e: Evidence) -> bool:
    return e.bad is not None


def diverged(e: Evidence) -> bool:
    """The loss ended far above its start, finite, without coming back."""
    loss = e.loss
    if e.bad is not None or loss is None or loss.steps < FEW or settled(e):
        return False
    if e.weights is not None and e.weights.growth is not None and e.weights.growth > RUINED:
        return True
    start = abs(loss.first)
    if not math.isfinite(start):
        return False
    if math.isfinite(loss.end) and loss.end > HUGE * max(start, 1.0):
        return True
    several = e.optimizer is not None and e.optimizer.optimizers > 1  # a GAN's losses play against each other
    if several or start == 0 or not math.isfinite(loss.end):
        return False
    hot = max_ratio(e)
    if hot is None or hot < HOT_RATIO:
        peak = e.optimizer.update_ratio_peak if e.optimizer is not None else None
        if not (loss.end > FAR * start and (peak or 0) >= HOT_RATIO):
            return False
    if loss.steps < LONG_ENOUGH:
        return False
    block = e.course.late_low if e.course is not None else None  # single batches are noise
    low = loss.late_low if block is None else block
    stayed = low is not None and low >= ABOVE * start and loss.end > JUMP * start
    stands_out = loss.peak > JUMP * max(start, loss.late_high or 0.0)  # a peak among others is noise
    blown = stands_out and loss.end >= BACK * start
    far = stands_out and loss.peak > FAR * start and loss.end >= HALF_WAY * start
    return stayed or blown or far


def settled(e: Evidence) -> bool:
    """Loss and gradients ended near their minimum, far below their start: whatever happened before, it was learned."""
    loss, gradients = e.loss, e.gradients
    if e.bad is not None or loss is None or loss.best is None or not math.isfinite(loss.first):
        return False
    start = loss.first if e.course is None else min(loss.first, e.course.start)  # one absurd first loss is no level
    down = start - loss.best
    low = down > 0 and loss.end <= start - HALF_WAY * abs(start) and loss.end <= loss.best + SETTLED * down
    if gradients is None or gradients.end is None or not math.isfinite(gradients.first):
        return low
    return low and gradients.end <= HALF_WAY * gradients.first


def max_ratio(e: Evidence) -> float | None:
    """The largest update against the weights that was seen, before or after onset."""
    if e.optimizer is None:
        return None
    seen = (e.optimizer.update_ratio, e.optimizer.update_ratio_onset, e.optimizer.update_ratio_first,)
    known = [ratio for ratio in seen if ratio is not None]
    return max(known) if known else None


def loud_target(e: Evidence) -> bool:
    """The loss jumped although inputs and outputs were as loud as ever: what is left is the target."""
    loss, outputs = e.loss, e.activations
    if loss is None or outputs is None or outputs.loudness_at_onset is None or loss.jump_at_onset is None:
        return False
    return loss.jump_at_onset >= FAR and outputs.loudness_at_onset <= ORDINARY_LOUDNESS and e.onset.step > 2


def failed(e: Evidence) -> bool:
    return non_finite(e) or diverged(e)
