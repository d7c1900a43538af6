"""No update leaves a non-finite parameter or optimizer state: proved beforehand where arithmetic can, else undone."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer

from ..recording.stats import detach
from .applied import Gradients
from .finite import bad_among, mend_
from .snapshots import Snapshots, copied, state_tensors

# optimizers of torch whose state is an average: it stays finite as long as gradients and their squares do
AVERAGING = ("SGD", "Adam", "AdamW", "RMSprop", "NAdam", "RAdam", "Adamax")
MARGIN = 1e4  # a square this far below the end of its type leaves room for what the formulas multiply it with
LARGEST_STEP = 1e30  # lr times the gradient: far below 3e38, whatever weight decay and momentum add


@dataclass
class Copies:
    """What the step may have to be undone to."""

    parameters: list[tuple[Tensor, Tensor]]
    state: dict[int, Any]


@dataclass
class Safety:
    snapshots: Snapshots
    wary: int = 0  # steps to come that are copied whatever the arithmetic says
    copies: dict[int, Copies] = field(default_factory=dict)  # by optimizer

    def before(self, optimizer: Optimizer, gradients: Gradients | None) -> None:
        """gradients: None where a closure makes them within the step."""
        self.copies.pop(id(optimizer), None)
        if self.wary > 0:
            self.wary -= 1
        elif gradients is not None and proved(optimizer, gradients):
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.requires_grad]
        state = {id(p): copied(optimizer.state[p]) for p in parameters if p in optimizer.state}
        self.copies[id(optimizer)] = Copies([(p, detach(p).clone()) for p in parameters], state)

    def after(self, optimizer: Optimizer, said: Callable[[str], None]) -> bool:
        """True if something had to be restored."""
        copies = self.copies.pop(id(optimizer), None)
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        places = bad_among(parameters)
        wrong = [parameters[place] for place in places]
        if copies is not None:
            wrong_state = bool(bad_among(state_tensors(optimizer, parameters)))
            if not wrong and not wrong_state:
                return False
            undo(optimizer, copies)
            wrong = [parameters[place] for place in bad_among(parameters)]  # they were so before the step
            if not wrong:
                self._heal_state(optimizer, parameters)
                said("the update was not finite, and was undone")
                return True
        if not wrong:
            return False
        self.wary = max(self.wary, 8)
        self.replace(wrong, said)
        self._heal_state(optimizer, parameters)
        return True

    def replace(self, wrong: list[Tensor], said: Callable[[str], None]) -> None:
        """Bad entries: the last good ones, where there are any; else small random ones, as repair-not-skip says."""
        for parameter in wrong:
            good = self.snapshots.good(parameter)
            if good is not None:
                count = mend_(parameter, good)
                said(f"{count} weights that were not finite were restored to their last good values")
            else:
                generator = torch.Generator().manual_seed(0)  # the training's own generators stay as they are
                fresh = torch.randn(parameter.shape, generator=generator).to(parameter.device) * 0.01
                count = mend_(parameter, fresh)
                said(f"{count} weights that were not finite became normal(0, 1) * 0.01")

    def buffers(self, models: list[nn.Module], said: Callable[[str], None]) -> None:
        """A forward pass that made NaN has left it in running statistics too: evaluation would fail."""
        for module in [module for model in models for module in model.modules()]:
            for name, value in module._buffers.items():
                if not isinstance(value, Tensor) or not value.is_floating_point() or not bad_among([value]):
                    continue
                # -inf is what many masks are made of; in statistics it is as bad as NaN
                wrong = ~torch.isfinite(value) if isinstance(module, _NormBase) else torch.isnan(value)
                good = self.snapshots.good(value)
                if good is None:
                    good = torch.full_like(value, 1.0 if name.endswith("var") else 0.0)
                if bool(wrong.any()):
                    value.copy_(torch.where(wrong, good, value))
                    said(f"{int(wrong.sum())} values of {name} that were not finite became what they were before")

    def _heal_state(self, optimizer: Optimizer, parameters: list[Tensor]) -> None:
        for tensor in state_tensors(optimizer, parameters):
            mend_(tensor)


def proved(optimizer: Optimizer, gradients: Gradients) -> bool:
    """Finite weights and state stay finite, by the formula of the optimizer and the sizes at hand."""
    if not gradients.finite or type(optimizer).__name__ not in AVERAGING:
        return False
    if not type(optimizer).__module__.startswith("torch."):
        return False
    for group in optimizer.param_groups:
        lr = group.get("lr", 0.0)
        lr = float(lr) if not isinstance(lr, Tensor) or lr.device.type == "cpu" else 0.0
        eps = group.get("eps", 1.0)
        if not math.isfinite(lr) or not lr * gradients.total < LARGEST_STEP or not eps > 0:
            return False
        if not float(group.get("momentum", 0.0) or 0.0) < 1 or not all(0 <= b < 1 for b in group.get("betas", ())):
            return False
    for parameter, norm in zip(gradients.parameters, gradients.norms, strict=True):
        largest = torch.finfo(parameter.dtype).max
        if not norm * norm * MARGIN < largest:
            return False
        if parameter.dtype is torch.float16:  # eps and v round to 0 there
            return False
    return True


def undo(optimizer: Optimizer, copies: Copies) -> None:
    with torch.no_grad():
        for parameter, values in copies.parameters:
            detach(parameter).copy_(values)
            optimizer.state.pop(parameter, None)
            if id(parameter) in copies.state:
                optimizer.state[parameter] = copies.state[id(parameter)]
