"""What people do against a NaN without knowing its cause, applied at every step: the opponents of active mode."""

import hashlib
import math
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_pre_hook

MAX_NORM = 1.0
SMOOTH, LIMIT, WARM = 0.97, 2.5, 25  # ZClip: weight of the past, z-score, steps before it clips
EVERY = 20  # steps between snapshots


def parameters(optimizer: Any) -> list[torch.Tensor]:
    return [p for group in optimizer.param_groups for p in group["params"]]


def norm(optimizer: Any) -> float:
    found = [torch.linalg.vector_norm(p.grad.double()) for p in parameters(optimizer) if p.grad is not None]
    return float(torch.linalg.vector_norm(torch.stack(found))) if found else 0.0


def leave_out(optimizer: Any) -> None:
    for p in parameters(optimizer):
        p.grad = None


def scale(optimizer: Any, factor: float) -> None:
    for p in parameters(optimizer):
        if p.grad is not None:
            p.grad.mul_(factor)


def skip(optimizer: Any) -> None:
    """Leave out every step whose gradients are not finite."""
    if not math.isfinite(norm(optimizer)):
        leave_out(optimizer)


def clip(optimizer: Any) -> None:
    """Clip to 1.0, always."""
    torch.nn.utils.clip_grad_norm_(parameters(optimizer), MAX_NORM)


class ZClip:
    """Clip what stands out of the running mean of the gradient norm; leave out what is not finite."""

    def __init__(self) -> None:
        self.seen: dict[int, list[float]] = {}

    def __call__(self, optimizer: Any) -> None:
        size = norm(optimizer)
        if not math.isfinite(size):
            leave_out(optimizer)
            return
        count, mean, square = self.seen.setdefault(id(optimizer), [0.0, size, 0.0])
        spread = math.sqrt(square)
        if count >= WARM and spread > 0 and size > 0 and (z := (size - mean) / spread) > LIMIT:
            wanted = mean + LIMIT * spread * LIMIT / z
            scale(optimizer, wanted / size)
            size = wanted
        square = SMOOTH * square + (1 - SMOOTH) * (size - mean) ** 2
        self.seen[id(optimizer)] = [count + 1, SMOOTH * mean + (1 - SMOOTH) * size, square]


class Rollback:
    """Go back to the last sound snapshot and halve the learning rate whenever anything is not finite."""

    def __init__(self) -> None:
        self.kept: dict[int, list[torch.Tensor]] = {}
        self.steps: dict[int, int] = {}

    def __call__(self, optimizer: Any) -> None:
        values = parameters(optimizer)
        sound = all(bool(torch.isfinite(p).all()) for p in values)
        if sound and math.isfinite(norm(optimizer)):
            self.steps[id(optimizer)] = self.steps.get(id(optimizer), -1) + 1
            if self.steps[id(optimizer)] % EVERY == 0:
                self.kept[id(optimizer)] = [p.detach().clone() for p in values]
            return
        with torch.no_grad():
            for p, kept in zip(values, self.kept.get(id(optimizer), []), strict=False):
                p.copy_(kept)
        leave_out(optimizer)
        optimizer.state.clear()
        for group in optimizer.param_groups:
            group["lr"] *= 0.5


OPPONENTS: dict[str, Callable[[], Callable[[Any], None]]] = {
    "skip every NaN step": lambda: skip, "clip 1.0 always": lambda: clip, "rollback and lr/2": Rollback,
    "z-score clipping": ZClip,
}  # fmt: skip


def put_in(name: str) -> None:
    act = OPPONENTS[name]()

    def before(optimizer: Any, args: Any, kwargs: Any) -> None:
        if len(args) < 2 and not kwargs.get("closure"):
            act(optimizer)

    register_optimizer_step_pre_hook(before)


def fingerprint(values: list[torch.Tensor]) -> str:
    """Equal only where every bit of every weight is."""
    found = hashlib.sha256()
    for value in values:
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


class Moving:
    """Did the weights go on moving, and are they finite at the end?"""

    def __init__(self) -> None:
        self.steps = self.moved = 0
        self.last: dict[int, float] = {}
        self.optimizers: list[Any] = []
        register_optimizer_step_pre_hook(self.before)

    def before(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if not any(known is optimizer for known in self.optimizers):
            self.optimizers.append(optimizer)
        # counted where a step begins: one that was undone after it has not moved
        here = sum(float(p.detach().double().sum()) for p in parameters(optimizer))
        before = self.last.get(id(optimizer))
        if before is not None:
            self.steps += 1
            self.moved += here != before
        self.last[id(optimizer)] = here

    def report(self) -> dict[str, Any]:
        values = [p for optimizer in self.optimizers for p in parameters(optimizer)]
        return {
            "finite": bool(values) and all(bool(torch.isfinite(p).all()) for p in values),
            "weights": fingerprint(values),
            "moved": self.moved / self.steps if self.steps else 0.0, "steps": self.steps,
        }  # fmt: skip
