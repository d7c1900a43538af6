"""A half-precision value passed 65504 and became Inf.

What happens
    float16 has no number above 65504. A larger activation, attention score, square
    or sum is stored as Inf; the next subtraction, softmax or normalisation turns it
    into NaN. The same value is nothing special in float32 or bfloat16. A constant
    beyond it, as -1e9 for a mask, ends the run with an error.

How to tell it from its neighbours
    In lr-too-high the loss grows first and float32 would fail as well. An overflow
    of scaled gradients that a GradScaler skips is healthy. In data-outlier one loud
    batch makes the value. masked-softmax needs a row of nothing but -inf.

What to do
    Run the part that overflows in float32, or everything in bfloat16. Keep the
    values small: scale attention scores by 1/sqrt(d), squeeze them, average where
    you sum. A GradScaler protects gradients only.

Sources
    nan-guide (mixed precision off, attention clamped), stability-guide (GradScaler),
    PyTorch's documentation of torch.amp
"""

import re

from ..evidence import Bad, Evidence
from .bookkeeping import outranked
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .domains import EXP_LIMIT, HALF_LIMIT, drifted, made_in_half, swallowed
from .failure import HOT_RATIO, max_ratio
from .remedies import nan_guide, papers, stability_guide, torch_docs
from .remedies.this_run import half_weights
from .weighing import Clue, clue, weigh
from .wording import num, percent, span, where

LIMIT = HALF_LIMIT
NEAR_BITS = 3.0  # three doublings away: a few steps of growth, or one loud batch
LOUD = 30.0  # input against its running median, E25
AT_ONCE = 5  # steps: an initialisation that fails, fails at once
PREPARED = 0.95  # the operation and its operands were seen
ABSORBED = 0.92  # seen; what was to be normalised by it became 0
SWALLOWED = 0.8  # the 0 was seen, not the Inf
CONVERTED = 0.7
CONVERTS = re.compile(r"\.float\(\)|\.to\((dtype=)?torch\.float32\)|\.type\(torch\.float32\)")
REFUSED = re.compile(r"value cannot be converted to type \S*Half without overflow")
CRASHED = 0.95  # torch says it in words
FAR_WEIGHTS = 14.0  # ten times He: weights that would overflow in half at once


def judge(e: Evidence) -> Answer:
    bad = e.bad
    if e.crash is not None and REFUSED.search(e.crash.message):
        what = f"{e.crash.type}: {e.crash.message.strip().splitlines()[0][:160]}"
        return Verdict(CRASHED, "A number beyond 65504 was to become a float16.", (Fact(what, layer=e.crash.layer),))
    if bad is None:
        return _absorbed(e) or _swallowed(e)
    if bad.phase == "input":
        return _prepared(bad)
    if _converted(e, bad):
        what = f"{where(bad)} converts to float32 what was Inf before, and what else it is given is finite"
        return Verdict(CONVERTED, f"{what}.", (Fact(what, bad.kind, step=bad.step, layer=bad.layer),))
    if bad.dtype != "float16" or bad.phase not in ("forward", "loss", "backward", "optimizer"):
        return None
    if bad.masked_rows or any(operand.nan for operand in bad.given()):
        return None
    clues = [*_clues(e, bad), *outranked(e)]
    return weigh(0.3, clues, f"At {where(bad)}, a float16 value passed 65504 and became {bad.kind or 'inf'}.")


def _converted(e: Evidence, bad: Bad) -> bool:
    """Without gradients a tensor has no node in the graph; the line still says that it was no float32 before."""
    unseen = bad.kind == "inf" and bad.dtype == "float32" and not bad.given() and bad.phase in ("forward", "loss")
    given = e.data.model_inputs_bad if e.data is not None else None
    return unseen and not given and CONVERTS.search(bad.text or "") is not None


def _prepared(bad: Bad) -> Answer:
    if not made_in_half(bad):
        return None
    what = "what the model was given was computed in float16 and passed 65504"
    facts = (Fact(what, bad.kind, LIMIT, bad.step), *(Fact(f"its operand: {span(o)}", o.absmax) for o in bad.given()))
    return Verdict(PREPARED, f"At step {bad.step} {what}.", facts)


def _absorbed(e: Evidence) -> Answer:
    """No loss is NaN by it: x / inf is 0, and what was to be normalised is gone."""
    found = e.precision.absorbed
    if found is None or not found.mostly:
        return None
    what = f"{found.op} made Inf in float16 at {percent(round(found.share, 3))} of the looks, and a division took it in"
    place = f"{found.file}:{found.line}: " if found.file and found.line else ""
    return Verdict(ABSORBED, f"{place}{what}.", (Fact(what, found.share, step=found.step, layer=found.layer),))


def _swallowed(e: Evidence) -> Answer:
    if not swallowed(e) or e.flow is None or e.data is None:
        return None
    what = f"{e.flow.unreached} gets gradients and its weight exactly 0: nothing of the data, up to "
    what += f"{num(e.data.first_absmax)}, comes to it; their squares pass 65504, and x / inf is 0"
    fact = Fact(what, e.data.first_absmax, LIMIT, step=0, layer=e.flow.unreached)
    return Verdict(SWALLOWED, f"{what[0].upper()}{what[1:]}.", (fact,))


def _clues(e: Evidence, bad: Bad) -> list[Clue]:
    found = [
        clue(
            1.0,
            "the first non-finite value was born in float16, from finite operands",
            "float16",
            step=bad.step,
            layer=bad.layer,
        )
    ]
    found += [clue(0.2, f"its operand: {span(o)}", o.absmax, LIMIT) for o in bad.given()[:2] if o.low == o.low]
    if _must_overflow(bad):
        found.append(clue(2.0, f"{bad.op} of such numbers exceeds 65504", LIMIT, LIMIT, bad.step))
    headroom = e.precision.headroom_bits
    if headroom is not None and headroom <= NEAR_BITS:
        text = f"{e.precision.loudest_layer or 'an activation'} was {num(headroom)} doublings below 65504 before"
        found.append(clue(1.5, text, headroom, NEAR_BITS, layer=e.precision.loudest_layer))
    slope = e.precision.headroom_slope
    if slope is not None and slope < -0.05 and e.onset.run_up < 2:
        found.append(
            clue(0.8, f"the largest value doubled every {num(-1 / slope)} steps while the loss was flat", slope)
        )
    if any(o.zeros for o in bad.given() if o.role == "other") and bad.op == "div":
        found.append(clue(-3.0, "the divisor holds zeros"))
    if bad.op in ("log", "sqrt", "rsqrt", "acos", "asin") or (bad.kind == "nan" and bad.op in ("div", "pow")):
        found.append(clue(-2.5, f"{bad.op} does not overflow: it left its domain"))
    hot = max_ratio(e)
    if drifted(e) and hot is not None and hot >= HOT_RATIO:
        found.append(
            clue(
                -2.0, f"the loss grew for {e.onset.run_up} steps before, with updates of {percent(hot)}", hot, HOT_RATIO
            )
        )
    if e.data and e.data.loudest_ratio is not None and e.data.loudest_ratio >= LOUD:
        found.append(clue(-1.5, f"the batch was {num(e.data.loudest_ratio)} times louder than usual"))
    if e.weights and e.weights.worst_gain is not None and e.weights.worst_gain >= FAR_WEIGHTS:
        at_once = e.onset.step <= AT_ONCE  # then no type with a larger range would have trained them either
        found.append(clue(-4.0 if at_once else -1.0, f"{e.weights.worst_layer} was far too large from the start"))
    return found


def _must_overflow(bad: Bad) -> bool:
    """Whether the operands alone explain Inf."""
    given = [operand.absmax for operand in bad.given() if operand.absmax == operand.absmax]
    if not given:
        return False
    if bad.op == "exp":
        return max(given) > EXP_LIMIT["float16"]
    if bad.op in ("pow", "mul", "matmul", "bmm", "linear", "conv1d", "conv2d", "conv3d", "conv", "einsum", "baddbmm"):
        return max(given) * max(given) > LIMIT or (len(given) > 1 and given[0] * given[1] * 8 > LIMIT)
    return max(given) > LIMIT / 8


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    op = e.bad.op if e.bad and e.bad.op else ""
    found = [torch_docs.float32_island, torch_docs.bfloat16, nan_guide.float32]
    if e.crash is not None and REFUSED.search(e.crash.message):
        found.insert(0, torch_docs.smallest_of_type)
    if e.style.attention or op in ("softmax", "matmul", "bmm", "scaled_dot_product_attention"):
        found.append(nan_guide.clamp_attention)
    if half_weights(e):  # a GradScaler refuses float16 weights
        found.append(papers.master_weights)
    found.append(stability_guide.amp_order if e.precision.scaler else stability_guide.grad_scaler)
    found += [nan_guide.skip_bad_loss, nan_guide.clip_one]
    return tuple(remedy(e) for remedy in found)


CAUSE = Cause("fp16-overflow", "A float16 value passed 65504", __doc__, judge, remedies)
