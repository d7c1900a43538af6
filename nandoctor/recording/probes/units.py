"""Units that never fire and rows of weights that never get a gradient, over a window of looks (E32)."""

import math
import weakref
from typing import Any

import torch
from torch import Tensor, nn

from ..looks import WINDOW, looking
from ..names import Layer
from ..run import Run
from ..stats import address, detach, kernel

MAX_UNITS = 65_536  # a vocabulary is no layer of units
SPREAD = 1_000_000  # elements: larger outputs are not worth a pass of their own
SAMPLES = 4  # of a batch, below which outputs are alike by chance


class Silence:
    """Which units of one tensor were silent at every look of the window that runs."""

    def __init__(self, units: int) -> None:
        self.looks = 0
        self.silent = torch.ones(units, dtype=torch.bool)

    def look(self, values: Tensor, dimension: int, nonzero: bool) -> tuple[float, float, float]:
        """Looks of the window, units, those with nothing above 0 (nonzero: nothing but 0) all the while: a row."""
        units = values.shape[dimension]
        if self.looks >= WINDOW or units != len(self.silent):
            self.looks, self.silent = 0, torch.ones(units, dtype=torch.bool)
        self.looks += 1
        if kernel is not None and values.dtype is torch.float32 and (place := address(values)):
            inner = math.prod(values.shape[dimension + 1 :])
            outer = values.numel() // max(units * inner, 1)
            left = kernel.silent(place, outer, units, inner, nonzero, self.silent.data_ptr())
            return float(self.looks), float(units), float(left)
        by_unit = detach(values).movedim(dimension, 0).reshape(units, -1)
        self.silent &= ~(by_unit != 0).any(1) if nonzero else (by_unit <= 0).all(1)
        return float(self.looks), float(units), float(self.silent.sum())


class Units:
    def __init__(self, run: Run) -> None:
        self.run = run
        self.layers: weakref.WeakKeyDictionary[Layer, Silence] = weakref.WeakKeyDictionary()
        self.parameters: dict[int, Silence] = {}

    def output(self, layer: Layer, module: nn.Module, output: Any) -> None:
        """A leaf module returned in training: which of its units are above 0 anywhere in the batch?"""
        if not looking(self.run.recorder) or not isinstance(output, Tensor) or output.device.type != "cpu":
            return
        dimension = _units(module, output)
        if dimension is None or not 1 < output.shape[dimension] <= MAX_UNITS:
            return
        silence = self.layers.setdefault(layer, Silence(output.shape[dimension]))
        recorder, subject = self.run.recorder, self.run.subject(layer)
        recorder.add("silent_units", subject, silence.look(output, dimension % output.dim(), False), output)
        if len(output) >= SAMPLES and output.numel() <= SPREAD:
            recorder.value("spread", subject, _spread(output))

    def gradient(self, subject: int, gradient: Tensor) -> None:
        """Which rows of a weight, which elements of a bias, got no gradient at all?"""
        if gradient.device.type != "cpu" or gradient.dim() < 1 or not 1 < gradient.shape[0] <= MAX_UNITS:
            return
        silence = self.parameters.setdefault(subject, Silence(len(gradient)))
        self.run.recorder.add("still_units", subject, silence.look(gradient, 0, True), gradient)


def _units(module: nn.Module, output: Tensor) -> int | None:
    """The dimension of an output that counts units: channels of convolutions and of batch norms, else features."""
    if output.dim() < 2 or not output.is_floating_point() or not module._parameters:
        return None
    if isinstance(module, (nn.modules.conv._ConvNd, nn.modules.batchnorm._BatchNorm, nn.GroupNorm)):
        return 1
    return output.dim() - 1 if isinstance(module, (nn.Linear, nn.LayerNorm)) else None


def _spread(output: Tensor) -> float:
    """How far the samples of a batch differ at all, against what they have in common: rms of what is left when their
    mean is taken away / rms. 0 for one answer to everything.
    """
    if kernel is not None and output.dtype is torch.float32 and (place := address(output)):
        room = torch.empty(output.numel() // len(output), dtype=torch.float64)
        return kernel.spread(place, len(output), len(room), room.data_ptr())
    values = detach(output).float()
    size = torch.linalg.vector_norm(values)
    apart = torch.linalg.vector_norm(values - values.mean(0))
    return float(apart / size) if size > 0 else 0.0
