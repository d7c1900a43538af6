"""BatchNorm over too few values: running statistics stand in for those of the batch."""

import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.optim import Optimizer

from ..causes import treatments
from ..evidence.optimizer import ADAPTIVE
from ..recording.run import Run
from ..recording.stats import detach
from ..recording.tracebacks import OURS
from .applied import Applied, Case, Gradients
from .hooks import shielded

TOO_FEW = 4  # values per channel, as in causes/batchnorm_tiny_batch.py
USUAL_BATCH = 32  # samples; the rate was chosen for normalised activations and averaged gradients
EARLY = 100  # steps that are given up to begin again
ALWAYS = 3  # calls, of which none had more values
PRIOR = 4  # batches that mean 0 and variance 1 are worth at first: a mean over few values is noise, too
SLOW = 0.1  # of the layer's own momentum: statistics of few values are noise, their mean over many batches is not


def values_per_channel(x: Any) -> int | None:
    if not isinstance(x, Tensor) or x.dim() < 2 or x.numel() == 0:
        return None
    return x.numel() // x.shape[1]


def with_running(
    run: Run, few: int, learns: bool, said: Callable[[nn.Module], None], counted: Callable[[nn.Module, int], bool],
    alone: Callable[[Tensor], bool] = lambda _: False, mostly: Callable[[nn.Module], bool] = lambda _: False,
) -> Callable[[], None]:
    """Calls of a training BatchNorm on at most `few` values per channel use its running statistics.

    `learns`: they still go into the running statistics, slowly. `alone`: so do other inputs that are no batch.
    `mostly`: a layer that meets such a call more often than not: what acts and what is trained must be one network.
    """
    switched: list[nn.Module] = []
    seen: dict[int, int] = {}  # by layer: batches that its statistics are made of

    def before(module: nn.Module, args: tuple[Any, ...]) -> None:
        if not isinstance(module, _BatchNorm) or not module.training or module.running_mean is None:
            return
        count = values_per_channel(args[0]) if args else None
        if count is not None and not counted(module, count):
            return
        if count is None or count > few and not alone(args[0]):
            if count is None or not mostly(module):
                return
            learn(module, detach(args[0]), module.momentum or 0.1)
        module.training = False
        switched.append(module)
        if learns and module.running_var is not None:
            slow = (module.momentum or 0.1) * SLOW
            if id(module) not in seen or first_ones(module):  # what an ordinary batch has taught is kept
                seen[id(module)] = 0 if first_ones(module) else math.ceil(1 / slow)
            seen[id(module)] += 1
            learn(module, detach(args[0]), max(slow, 1 / (seen[id(module)] + PRIOR)))
        if count <= few:
            said(module)

    def after(module: nn.Module, *_: Any) -> None:
        if switched and module is switched[-1]:
            switched.pop().training = True

    safe_before, safe_after = shielded(run, before), shielded(run, after)

    def entering(module: nn.Module, args: tuple[Any, ...]) -> None:  # every module comes by: a glance for the others
        if isinstance(module, _BatchNorm) and module.training:
            safe_before(module, args)

    def leaving(module: nn.Module, *_: Any) -> None:
        if switched:
            safe_after(module)

    first = register_module_forward_pre_hook(entering)
    second = register_module_forward_hook(leaving, always_call=True)
    OURS.update((first.id, second.id))

    def stop() -> None:
        first.remove()
        second.remove()

    return stop


def first_ones(module: Any) -> bool:
    """The statistics that a layer is made with, mean 0 and variance 1: no batch has taught it any."""
    return not bool(module.running_mean.any()) and bool((module.running_var == 1).all())


def learn(module: Any, given: Tensor, share: float) -> None:
    """One batch goes into the running statistics. One value has no variance; what lies between batches is one."""
    x = given.transpose(0, 1).flatten(1).float()
    away = x.mean(1) - module.running_mean.float()
    within = x.var(1, correction=0)
    module.running_mean.add_((away * share).to(module.running_mean.dtype))
    var = (module.running_var.float() + away.square() * share) * (1 - share) + within * share
    module.running_var.copy_(var.to(module.running_var.dtype))


def running(case: Case) -> Applied | None:
    norm, alone = case.evidence.batchnorm, case.run.alone
    if norm is None and not (alone is not None and alone.always()):
        return None
    few = max(1, min(TOO_FEW, norm.usual)) if norm is not None else 1
    if alone is not None:
        alone.on = False
    stop = with_running(case.run, few, True, lambda _: None, lambda *_: True)
    return Applied(
        treatments.BATCHNORM, f"BatchNorm uses its running statistics for at most {few} values per channel",
        "remove --active; to keep it, use larger batches, drop_last=True or another normalisation",
        {"kind": "drop-last"}, back="start" if case.run.recorder.step < EARLY else "", stop=stop,
        factor=lambda optimizer: _share(optimizer, few),
        upstream="batchnorm-tiny-batch",  # the batches stay as small as they are
    )  # fmt: skip


def _share(optimizer: Optimizer, few: int) -> float:
    """A rate that such batches bear: the noise of a step of SGD goes with lr / batch, that of Adam with its root."""
    share = few / USUAL_BATCH
    return math.sqrt(share) if any(word in type(optimizer).__name__.lower() for word in ADAPTIVE) else share


def never_one(run: Run, ledger: Any) -> None:
    """In force from the start: torch raises on one value per channel, and the training would end there."""
    alone = run.alone = Alone()

    def said(module: nn.Module) -> None:
        alone.met = True
        layer = run.names.known(module)
        name = layer.name if layer is not None else type(module).__name__
        ledger.write(
            "once", treatments.BATCHNORM, "batchnorm-tiny-batch",
            f"{name} used its running statistics for this batch", "it holds one value per channel, torch would raise",
            "remove --active; to keep it, DataLoader(..., drop_last=True)", patch={"kind": "drop-last"},
        )  # fmt: skip

    with_running(run, 1, False, said, alone.called, alone.one_sample, alone.mostly)


def weigh(run: Run, found: Gradients) -> None:
    """The gradient of what was left over of the data weighs as much as any single sample of another batch."""
    alone = run.alone
    if alone is not None and alone.share < 1.0 and alone.on:
        torch._foreach_mul_([detach(g) for g in found.tensors() if g.layout is torch.strided], alone.share)
        found.total *= alone.share
        found.norms = [norm * alone.share for norm in found.norms]
        alone.share = 1.0


class Alone:
    """Is it one value in every batch? torch would not have come beyond the first."""

    def __init__(self) -> None:
        self.ones: Counter[int] = Counter()
        self.more: dict[int, int] = {}  # by layer: what its last ordinary batch held
        self.times: Counter[int] = Counter()  # by layer: ordinary batches
        self.share = 1.0  # of the step at hand
        self.on = True
        self.met = False  # a layer at which torch would have raised

    def one_sample(self, x: Tensor) -> bool:
        """What is left over of the data is one image, from which layers before this one would still learn.

        Not before it was met once: a training that bears such a batch is left alone.
        """
        return self.met and x.shape[0] == 1 and bool(self.more)

    def called(self, module: nn.Module, count: int) -> bool:
        """Whether it is ours to answer."""
        if count > 1:
            self.more[id(module)] = count
            self.times[id(module)] += 1
        else:
            self.ones[id(module)] += 1
            self.share = 1 / self.more.get(id(module), 1)
        return self.on

    def mostly(self, module: nn.Module) -> bool:
        ones = self.ones[id(module)]
        return ones >= ALWAYS and ones > self.times[id(module)]

    def always(self) -> bool:
        return any(times >= ALWAYS and module not in self.more for module, times in self.ones.items())
