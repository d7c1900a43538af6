"""PyTorch's own documentation, where a cause is about how torch is called."""

from ...evidence import Evidence
from .. import treatments
from ..cause import Remedy
from ..wording import num
from . import code_lines
from .this_run import accumulated, half_weights, rate

DOCS = "https://docs.pytorch.org/docs/stable"
AMP, AMP_EXAMPLES = f"{DOCS}/amp.html", f"{DOCS}/notes/amp_examples.html"
BROADCASTING = f"{DOCS}/notes/broadcasting.html"
TYPES = f"{DOCS}/type_info.html"
AUTOGRAD, RANDOMNESS, OPTIM = f"{DOCS}/notes/autograd.html", f"{DOCS}/notes/randomness.html", f"{DOCS}/optim.html"
FIRST_SCALE = 65536.0  # GradScaler's default
LARGEST_SCALE = 2.0**24  # every gradient above 0.004 is Inf then
ALL_OF = 0.99  # share of elements that move: the rest are padding rows and the like


# --- precision -------------------------------------------------------------------------------------------------------


def bfloat16(e: Evidence) -> Remedy:
    half = half_weights(e)
    change = f"{half} weights -> bfloat16" if half else f"autocast {e.precision.autocast or 'float16'} -> bfloat16"
    return Remedy(
        "Use bfloat16, whose range is that of float32",
        change,
        AMP,
        None,
        code_lines.bfloat16(e),
    )


def smallest_of_type(e: Evidence) -> Remedy:
    """A constant that every type holds, for masks that are added or filled in."""
    code = "scores.masked_fill(mask, torch.finfo(scores.dtype).min)"
    return Remedy("Take the mask's constant from the type", "-1e9 -> torch.finfo(x.dtype).min", TYPES, None, code)


def float32_island(e: Evidence) -> Remedy:
    op = e.bad.op if e.bad and e.bad.op else "this operation"
    layer = e.bad.layer if e.bad and e.bad.layer else e.precision.loudest_layer
    change = f"{layer or op}: float16 -> float32"
    title = "Run the part that overflows in float32"
    return Remedy(title, change, AMP, treatments.AMP_ORDER, code_lines.island(e))


def larger_scale(e: Evidence) -> Remedy:
    """A GradScaler doubles every growth_interval steps, 2000 by default: a scale that begins low stays low for long."""
    first, last = e.precision.scale_first, e.precision.scale_last
    now = last if last is not None else first
    new = FIRST_SCALE if now is None or now < FIRST_SCALE else min(LARGEST_SCALE, now * 2**8)
    code = code_lines.grad_scaler(e, init_scale=new, growth_interval=200)
    was = f"{num(now)} -> " if now is not None else ""
    change = f"init_scale {was}{new:.0f} (it halves by itself where that is too much), growth_interval 200"
    return Remedy("A larger loss scale", change, AMP, treatments.AMP_ORDER, code)


# --- accumulation ----------------------------------------------------------------------------------------------------


def divide_loss(e: Evidence) -> Remedy:
    k = accumulated(e)
    count = str(k) if k > 1 else "accumulation_steps"
    divisor = e.accumulation.divisor if e.accumulation else None
    had = f"loss / {num(divisor)}" if divisor else "loss"
    change = f"{had} -> loss / {count}: {count} backward calls add up before each step"
    code = f"loss = loss / {count}"
    if e.style.lightning:
        code = f"Trainer(..., accumulate_grad_batches={count})  # divides by itself"
    elif e.style.hf_trainer:
        code = f"TrainingArguments(..., gradient_accumulation_steps={count})  # divides by itself"
    elif e.style.accelerate:
        code = f"accelerator = Accelerator(gradient_accumulation_steps={count})  # accelerator.backward divides"
    return Remedy("Divide the accumulated loss", change, AMP_EXAMPLES, treatments.ACCUMULATION, code)


# --- is anything trained at all --------------------------------------------------------------------------------------


def check_graph(e: Evidence) -> Remedy:
    """requires_grad off, a detach, a model that the optimizer does not hold."""
    left = e.trained.left_out if e.trained else ()
    named = f": no update for {', '.join(left[:2])}" if left else ""
    change = f"every parameter has a gradient and is held by the optimizer{named}; no detach(), .item() or no_grad on "
    code = (
        f"print([w[0] for w in {code_lines.model(e)}.named_parameters() if w[1].grad is None])"
        "  # after backward: those that it does not reach"
    )
    return Remedy("Check that the loss reaches the weights", f"{change}the way to the loss", AUTOGRAD, None, code)


def one_shape(e: Evidence) -> Remedy:
    """Answers [N, 1] against targets [N]: broadcasting makes [N, N] of them."""
    n = e.crossed.rows if e.crossed else "N"
    change = f"answers [{n}, 1] -> [{n}], the shape of the targets"
    code = "loss = criterion(output.squeeze(-1), y)"
    return Remedy("Give answers and targets one shape", change, BROADCASTING, None, code)


def finite_schedule(e: Evidence) -> Remedy:
    """A learning rate that is itself NaN or Inf."""
    peak = e.optimizer.lr_peak if e.optimizer else None
    before = f"; it was at most {num(peak)} before" if peak is not None else ""
    change = (
        f"its formula gives NaN or Inf at step {e.onset.step}{before}: a division by 0 steps, a root or power of less"
    )
    code = "assert all(abs(lr) < 10 for lr in scheduler.get_last_lr()), scheduler.get_last_lr()"
    return Remedy("Mend the schedule", change, OPTIM, treatments.LEARNING_RATE, code)


def downhill(e: Evidence) -> Remedy:
    change = "the updates go up the gradient: minimise the loss, not its negative, and no maximize=True, no negative lr"
    return Remedy("Turn the sign around", change, OPTIM, None, "loss = -loss  # before backward")


def all_parameters(e: Evidence) -> Remedy:
    share = e.trained.moved if e.trained else None
    seen = f" ({num(100 * share)} % of the elements move)" if share is not None and share < ALL_OF else ""
    code = code_lines.optimizer(e, rate(e) or 1e-3)
    return Remedy("Give the optimizer all parameters", f"those of the model that is trained{seen}", OPTIM, None, code)


# --- does it compute the same twice ----------------------------------------------------------------------------------


def run_twice(e: Evidence) -> Remedy:
    change = "two recordings that part prove it; two that are equal acquit the hardware"
    code = "nandoctor record -o again.parquet -- COMMAND && nandoctor diagnose run.parquet again.parquet"
    return Remedy("Run it again and compare", change, RANDOMNESS, None, code)


def deterministic(e: Evidence) -> Remedy:
    change = "seeds set and deterministic algorithms on, so that a difference means a fault"
    if e.style.cuda:
        change += "; CUBLAS_WORKSPACE_CONFIG=:4096:8 in the environment"
    code = "torch.manual_seed(0); torch.use_deterministic_algorithms(True)"
    return Remedy("Make the run repeatable first", change, RANDOMNESS, None, code)
