"""Where operations leave their domain, in the forward pass or in their derivative. Verified on torch 2.13."""

import math

from ..evidence import Bad, Evidence, Operand
from .step_size import VERY_HOT, ratio_before
from .wording import num

EXP_LIMIT = {"float16": 11.09, "bfloat16": 88.72, "float32": 88.72, "float64": 709.78}  # log of the largest number
HALF_LIMIT = 65504.0
NEARLY_ALL = 0.9  # of the elements of all matrices: heads may start as they like
EXPONENTIAL = ("exp", "expm1", "exp2", "sinh", "cosh")
NEAR_ZERO = 1e-30  # a divisor below this makes Inf of ordinary numbers in float32
FIRST_STEPS, TORN = 2, 0.5  # no step is before them that could tell; of the weights, in the first one
NEAR_ONE = 1 - 1e-7  # acos' derivative is infinite at 1; float32 has no number between
SINGULAR_BACKWARD = frozenset(
    "sqrt rsqrt norm pow acos asin acosh atanh atan2 div reciprocal log log2 log10 log1p logit where "
    "std var cdist dist eigh eigvalsh svd qr cholesky inv solve pinverse det slogdet normalize "
    "ctc_loss cosine_similarity xlogy pairwise_distance lerp hypot mul logsumexp erfinv prod cumprod".split()
)
DOMAIN_FORWARD = frozenset(
    "log log2 log10 log1p logit sqrt rsqrt div reciprocal pow acos asin acosh atanh exp expm1 exp2 std "
    "var mean xlogy fmod remainder lgamma digamma erfinv tan sinh cosh inv cholesky det logdet slogdet "
    "eigh svd solve norm logsumexp ctc_loss kl_div poisson_nll_loss gaussian_nll_loss cosine_similarity "
    "normalize addcdiv std_mean var_mean float_power cumprod prod nanmean cov corrcoef".split()
)


def trespass(bad: Bad) -> str | None:
    """In words, how the operands of this birth lie outside the operation's domain; None if they do not."""
    if bad.op is None or bad.phase not in ("forward", "loss", "backward"):
        return None
    given = bad.given()
    x = bad.operand("self", "input") or (given[0] if given else None)
    if x is None:
        return None
    backward = bad.phase == "backward"
    found = _one_operand(bad.op, x, backward, bad)
    return found or _two_operands(bad, x, backward)


def _one_operand(op: str, x: Operand, backward: bool, bad: Bad) -> str | None:
    low, high = x.low, x.high
    if op in ("log", "log2", "log10", "xlogy") and (x.zeros or low <= 0):
        return f"{op} of a value whose minimum is {num(low)}"
    if op == "log1p" and low <= -1:
        return f"log1p of a value whose minimum is {num(low)}"
    if op == "logit" and (low <= 0 or high >= 1):
        return f"logit of values in [{num(low)}, {num(high)}]"
    if op == "sqrt" and (low < 0 or (backward and (x.zeros or low <= 0))):
        return f"sqrt of {num(low)}" + (": its derivative there is infinite" if backward and low >= 0 else "")
    if op in ("rsqrt", "reciprocal") and (x.zeros or low <= 0 and op == "rsqrt"):
        return f"{op} of {num(0.0 if x.zeros else low)}"
    if op in ("acos", "asin") and (x.absmax > 1 or (backward and x.absmax >= NEAR_ONE)):
        return f"{op} of {num(x.absmax)}" + (": its derivative there is infinite" if x.absmax <= 1 else "")
    if op == "atanh" and x.absmax >= 1:
        return f"atanh of {num(x.absmax)}"
    if op == "acosh" and (low < 1 or (backward and low <= 1)):
        return f"acosh of {num(low)}"
    if op in EXPONENTIAL and high > EXP_LIMIT.get(x.dtype, 88.72):
        return f"{op} of {num(high)}: above {EXP_LIMIT.get(x.dtype, 88.72):.4g} it leaves {x.dtype or 'float32'}"
    if op in ("std", "var", "std_mean", "var_mean") and bad.kind == "nan" and x.finite and x.absmax < 1e18:
        return f"{op} over one element: it divides by n - 1 = 0"
    if op == "ctc_loss" and x.finite and (backward or bad.kind == "inf"):
        return "ctc_loss of a target that is longer than its input: no alignment has a probability above 0"
    if op in ("mean", "nanmean") and x.count == 0:
        return "mean over nothing"
    return None


def _two_operands(bad: Bad, x: Operand, backward: bool) -> str | None:
    other = bad.operand("other", "exponent", "tensor2", "weight")
    if bad.op in ("div", "fmod", "remainder", "addcdiv") and other is not None:
        if other.zeros:
            both = x.zeros > 0 and bad.kind == "nan"
            return f"{'0/0' if both else 'division by 0'}: the divisor holds {other.zeros} zeros"
        smallest = min(abs(other.low), abs(other.high))
        if smallest < NEAR_ZERO:
            return f"division by {num(smallest)}"
    if bad.op in ("pow", "float_power"):
        negative = other is not None and other.low < 0
        if x.zeros and (negative or backward):
            return "0 to a power below 1: its derivative is infinite" if backward else "0 to a negative power"
        if x.low < 0 and bad.kind == "nan" and x.absmax < 1e15:
            return f"a negative number ({num(x.low)}) to a fractional power"
    if bad.op == "mul" and bad.kind == "nan" and any(o.inf for o in bad.given()) and any(o.zeros for o in bad.given()):
        return "0 * inf"
    return None


def half_overflow(bad: Bad | None) -> bool:
    """Inf in float16 of finite operands that float32 would have held: only exp and divisions by 0 leave both."""
    if bad is None or bad.dtype != "float16" or bad.kind == "nan" or bad.phase not in ("forward", "loss"):
        return False
    given = bad.given()
    if not given or not all(operand.finite for operand in given):
        return False
    if bad.op in EXPONENTIAL:
        return all(not operand.high > EXP_LIMIT["float32"] for operand in given)
    return trespass(bad) is None


def made_in_half(bad: Bad) -> bool:
    """What a model was given was computed by the program, in float16, of finite numbers, and became Inf."""
    given = bad.given()
    return bad.method == "expression" and bad.dtype == "float16" and bool(given) and all(o.finite for o in given)


def may_trespass(bad: Bad) -> bool:
    """Whether this operation has a domain to leave in this phase, where the operands are not known."""
    if bad.op is None:
        return False
    return bad.op in (SINGULAR_BACKWARD if bad.phase == "backward" else DOMAIN_FORWARD)


def in_graph(bad: Bad) -> bool:
    """Whether gradients flow through this operation. The user's arithmetic on rewards or weights is no activation."""
    return bad.method != "expression"


def overflowed(bad: Bad) -> bool:
    """An ordinary operation on numbers so large that the result left the type: never a root by itself."""
    limit = math.sqrt(65504.0) if bad.dtype == "float16" else 1e15
    return any(operand.absmax > limit for operand in bad.given() if not math.isnan(operand.absmax))


def drifted(e: Evidence) -> bool:
    """Whether the run had left its path before: then the operation is only where it showed."""
    ratio = ratio_before(e)
    first = e.optimizer.update_ratio_first if e.optimizer is not None else None
    if 0 < e.onset.failed <= FIRST_STEPS and first is not None and first >= TORN:
        return True
    return e.onset.run_up >= 2 or (e.onset.run_up == 1 and ratio is not None and ratio >= VERY_HOT)


def swallowed(e: Evidence) -> bool:
    """In half, and the squares of the data pass its range: what is divided by their sum is 0, and nothing of the data
    comes to the first layer.
    """
    given = e.data.first_absmax if e.data is not None else None
    none = e.flow is not None and e.flow.unreached is not None
    return none and e.precision.float16 and given is not None and given < HALF_LIMIT < given * given


def faint_weights(e: Evidence) -> tuple[str, float, float] | None:
    """Nearly all matrices start next to nothing: one of them, the largest std * sqrt(fan-in), their share."""
    faint = e.weights.faint if e.weights is not None else None
    return faint if faint is not None and faint[2] >= NEARLY_ALL else None
