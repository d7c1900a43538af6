"""The gradients that reach a leaf module's outputs, read as backward passes them.

By a hook on the graph node that made the output: safe with in-place activations and residual additions (a module's
full backward hook crashes on both), and the tensor itself stays as it was for pickling.
"""

from functools import partial

from torch import Tensor

from ...trace.schema import BAD, SCALED
from ..looks import looking
from ..names import Layer
from ..run import Reached, Run
from ..stats import SMALLEST_NORMAL, away, flushed, measurable, measure

KEPT = 256  # calls of a layer in a step whose hooks serve again


def watch_gradient(run: Run, layer: Layer, path: str, number: int, output: Tensor) -> None:
    assert output.grad_fn is not None
    key = path, number, output.output_nr
    hook = layer.hooks.get(key)
    if hook is None:
        hook = run.recorder.guard("backward", partial(gradient, run, layer, *key))
        if number < KEPT:
            layer.hooks[key] = hook
    output.grad_fn.register_prehook(hook)


def gradient(
    run: Run, layer: Layer, path: str, number: int, position: int, gradients: tuple[Tensor | None, ...]
) -> None:
    tensor = gradients[position] if position < len(gradients) else None
    if tensor is None or not measurable(tensor):
        return
    recorder = run.recorder
    subject = run.subject(layer, path)
    flags = SCALED if run.scale is not None else 0
    if away(tensor):
        recorder.add_later("output_gradient", subject, tensor, flags, run.mode, number)
        return
    stats = measure(tensor)
    bad = stats.bad
    recorder.add("output_gradient", subject, stats, tensor, flags | (BAD if bad else 0), run.mode, number)
    largest = max(abs(stats.low), abs(stats.high))
    if tensor.dtype in SMALLEST_NORMAL and looking(recorder):
        recorder.add("flush", subject, flushed(tensor), tensor, flags, run.mode, number)
    run.trail.append(Reached(layer, number, bad, tensor.dtype, largest))
