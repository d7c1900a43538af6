"""An operation left its domain.

What happens
    log of 0, 0 divided by 0, sqrt of a sum of squares that is exactly 0 (whose
    derivative is infinite), acos at 1, exp above 88: the formula is right on paper
    and undefined for one value that training reaches sooner or later. torch.where
    does not help in backward: the branch that is thrown away still sends 0 * inf.

How to tell it from its neighbours
    bad-input-data: there the operand was NaN already. masked-softmax: the operand
    is a row of -inf. lr-too-high: the operand drifted out of range because the run
    had diverged; then the operation is where it showed, not why.

What to do
    Keep the operand inside the domain: add eps inside the log, the sqrt and the
    divisor, clamp before acos and exp, or use the function that was made for it
    (log_softmax, binary_cross_entropy_with_logits, logsumexp).

Sources
    PyTorch's documentation of the stable functions; nan-root-cause and
    nan-guide for the guards
"""

from ..evidence import Bad, Evidence
from .batchnorm_tiny_batch import one_row_given
from .cause import Answer, Cause, Fact, Remedy, Verdict
from .domains import drifted, half_overflow, in_graph, may_trespass, overflowed, trespass
from .failure import HOT_RATIO, max_ratio
from .remedies import nan_guide, nan_root_cause, repair_not_skip
from .step_size import LOUD_RMS
from .weighing import Clue, clue, weigh
from .wording import num, percent, span, where

BY_ELIMINATION = 0.8  # nothing of the operation itself was seen
FAR_WEIGHTS = 7.0  # std * sqrt(fan-in), five times He: such weights overflow by themselves
LOUD = 30.0  # batch against its usual largest value, E25: it drove the operand there
LOUD_BIAS = 10.0  # units start within 1 of 0: exp of such a bias is 22000
AT_ONCE = 5  # steps
MOVES = ("cat", "stack", "index_select", "gather", "expand", "clone")  # they compute nothing: what they join was bad
FUNCTIONS = "https://docs.pytorch.org/docs/stable/nn.functional.html"
KEEP_INSIDE: dict[str, tuple[str, str]] = {
    "log": ("log(x) -> log(x.clamp_min(1e-8)), or log_softmax / logsigmoid on logits", "x.clamp_min(1e-8).log()"),
    "log1p": ("log1p(x) -> x kept above -1", "torch.log1p(x.clamp_min(-1 + 1e-6))"),
    "logit": ("logit(p) -> logit(p, eps=1e-6)", "torch.logit(p, eps=1e-6)"),
    "sqrt": ("sqrt(x) -> sqrt(x + 1e-12)", "torch.sqrt(x + 1e-12)"),
    "rsqrt": ("rsqrt(x) -> rsqrt(x + 1e-6)", "torch.rsqrt(x + 1e-6)"),
    "div": ("a / b -> b kept from 0: a count clamp_min(1), a size b + 1e-8", "a / b.clamp_min(1e-8)  # where b >= 0"),
    "reciprocal": ("1 / x -> 1 / (x + 1e-8)", "1 / x.clamp_min(1e-8)  # where x >= 0"),
    "pow": ("x ** p -> (x + 1e-12) ** p", "x.clamp_min(1e-12) ** p"),
    "acos": ("acos(x) -> x clamped to [-1 + 1e-6, 1 - 1e-6]", "torch.acos(x.clamp(-1 + 1e-6, 1 - 1e-6))"),
    "asin": ("asin(x) -> x clamped to [-1 + 1e-6, 1 - 1e-6]", "torch.asin(x.clamp(-1 + 1e-6, 1 - 1e-6))"),
    "atanh": ("atanh(x) -> x clamped to [-1 + 1e-6, 1 - 1e-6]", "torch.atanh(x.clamp(-1 + 1e-6, 1 - 1e-6))"),
    "exp": ("exp(x) -> x clamped to at most 20, or softmax / logsumexp", "x.clamp_max(20).exp()"),
    "norm": ("norm(x) -> sqrt(sum of squares + 1e-12)", "(x.square().sum(-1) + 1e-12).sqrt()"),
    "std": ("std over one element -> unbiased=False and eps", "x.std(dim, unbiased=False) + 1e-6"),
    "var": ("var over one element -> unbiased=False and eps", "x.var(dim, unbiased=False) + 1e-6"),
    "mean": ("mean over nothing -> sum / count.clamp_min(1)", "x.sum() / max(x.numel(), 1)"),
    "ctc_loss": (
        "zero_infinity=False -> True, or leave out targets longer than their input",
        "torch.nn.CTCLoss(blank=0, zero_infinity=True)",
    ),
    "mul": ("0 * inf -> torch.where on safe operands, both branches finite", "torch.where(ok, safe, 0.0)"),
    "where": (
        "the branch not taken -> safe operand first (double where)",
        "torch.where(ok, f(torch.where(ok, x, 1.0)), 0.0)",
    ),
}
FALLBACK = ("keep the operand inside the operation's domain: eps or clamp before it", "x = x.clamp(low, high)")
SAME = {
    "log2": "log",
    "log10": "log",
    "xlogy": "log",
    "expm1": "exp",
    "exp2": "exp",
    "sinh": "exp",
    "cosh": "exp",
    "std_mean": "std",
    "var_mean": "var",
    "float_power": "pow",
    "remainder": "div",
    "fmod": "div",
}


def judge(e: Evidence) -> Answer:
    bad = e.bad
    unseen = _beside_the_graph(e)
    if unseen is not None:
        return unseen
    if bad is None or bad.op is None or bad.phase not in ("forward", "loss", "backward") or bad.masked_rows:
        return None
    left = trespass(bad)
    if left is None and not may_trespass(bad):
        return None
    if left is None and (overflowed(bad) or half_overflow(bad) or any(not operand.finite for operand in bad.given())):
        return None
    clues = _clues(e, bad, left)
    sentence = left or f"{bad.op}, which has a singular point"
    return weigh(-0.5, clues, f"At {where(bad)}: {sentence}.")


def _beside_the_graph(e: Evidence) -> Answer:
    """By elimination: inputs, labels and weights were finite, and what needs no gradient has no node in the graph."""
    bad, data, weights = e.bad, e.data, e.weights
    if (
        bad is None
        or (bad.unknown is None and bad.op not in MOVES)
        or bad.phase not in ("forward", "loss")
        or bad.masked_rows
    ):
        return None
    if bad.kind != "nan" or bad.dtype == "float16" or drifted(e) or any(not o.finite for o in bad.given()):
        return None
    if trespass(bad) is not None or (bad.op is not None and may_trespass(bad)) or overflowed(bad):
        return None
    if data is None or data.bad_batches or data.model_inputs_bad or data.all_ignored or (data.scale or 0) >= LOUD_RMS:
        return None
    if weights is None or weights.bad_at_start or weights.foreign_writes or (weights.worst_gain or 0) >= FAR_WEIGHTS:
        return None
    what = "an operation that needs no gradient made it: inputs, labels and weights were finite"
    return Verdict(BY_ELIMINATION, f"At {where(bad)}: {what}.", (Fact(what, bad.kind, step=bad.step, layer=bad.layer),))


def _clues(e: Evidence, bad: Bad, left: str | None) -> list[Clue]:
    found = []
    if left is not None:
        found.append(clue(3.5, left, _operand_value(bad), step=bad.step, layer=bad.layer))
    else:
        text = f"{bad.op} made the first {bad.kind or 'non-finite value'} of finite operands"
        found.append(clue(2.2, text, bad.kind, step=bad.step, layer=bad.layer))
    found += [clue(0.2, f"its operand: {span(o)}", o.low) for o in bad.given()[:2] if o.low == o.low]
    ratio = e.optimizer.update_ratio if e.optimizer else None
    x = bad.operand("self", "input")
    one_row = bad.op in ("std", "var") and x is not None and x.rows == 1 and (x.count or 0) > 1
    if one_row and in_graph(bad) and one_row_given(e):
        found.append(clue(-2.0, "it was taken over a batch of one row: see batchnorm-tiny-batch"))
    if e.data is not None and (e.data.loudest_ratio or 0) >= LOUD and e.data.loudest_step is not None:
        text = f"the batch of step {e.data.loudest_step} was {num(e.data.loudest_ratio)} times louder than usual"
        found.append(clue(-3.0, text, e.data.loudest_ratio, LOUD, e.data.loudest_step))
    bias = e.weights.loud_bias if e.weights is not None else None
    if bias is not None and bias[1] >= LOUD_BIAS and e.onset.step <= AT_ONCE:
        found.append(clue(-4.0, f"{bias[0]} started at {num(bias[1])} before the first step", bias[1], LOUD_BIAS))
    if drifted(e):
        hot = (max_ratio(e) or 0) >= HOT_RATIO
        text = f"the loss left its path at step {e.onset.step} already, so the operand drifted there"
        found.append(clue(-3.0 if hot else -1.0, text, step=e.onset.step))
    elif ratio is not None and ratio < HOT_RATIO:
        found.append(
            clue(0.5, f"until then the run was ordinary: updates {percent(ratio)} of the weights", ratio, HOT_RATIO)
        )
    if bad.dtype == "float16" and bad.kind != "nan" and bad.op in ("exp", "pow", "div"):
        found.append(clue(-1.5, "the value was born in float16, whose range is small"))
    return found


def _operand_value(bad: Bad) -> float | None:
    other, x = bad.operand("other"), bad.operand("self", "input")
    if bad.op == "div" and other is not None:
        return 0.0 if other.zeros else other.low
    return x.low if x is not None and x.low == x.low else None


def remedies(e: Evidence) -> tuple[Remedy, ...]:
    bad = e.bad
    op = bad.op if bad and bad.op else ""
    change, code = KEEP_INSIDE.get(SAME.get(op, op), FALLBACK)
    place = f" at {bad.file}:{bad.line}" if bad and bad.file and bad.line else ""
    if bad and bad.dtype in ("float16", "bfloat16"):
        change, code = f"{change}, in float32: {bad.dtype} cannot hold these limits", f"x = x.float(); {code}"
    first = Remedy(f"Keep {op or 'the operand'} inside its domain", change + place, FUNCTIONS, None, code)
    others = (
        nan_guide.skip_bad_loss,
        nan_root_cause.check_gradients,
        repair_not_skip.repair_gradients,
        nan_guide.start_over,
    )
    return (first, *(remedy(e) for remedy in others))


CAUSE = Cause("unsafe-op", "An operation left its domain", __doc__, judge, remedies)
