"""One parameter of one optimizer, and how densely it is sampled."""

import weakref
from dataclasses import dataclass

from torch import Tensor

SAMPLE = 2_048  # elements of one parameter whose update is read: 2 % error on the norm of a dense update


@dataclass
class Watched:
    ref: "weakref.ref[Tensor]"  # nothing of the user's is kept alive
    name: str
    kind: str | None
    weight: int  # subject ids
    wanted: bool
    stride: int
    gradient: Tensor | None = None  # sample of the gradient that this step uses
    sampled: Tensor | None = None  # sample of the weight before the step of an alarm

    @property
    def parameter(self) -> Tensor:
        found = self.ref()
        if found is None:
            raise ReferenceError(f"parameter {self.name} is gone")
        return found
