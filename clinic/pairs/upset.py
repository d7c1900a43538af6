"""A silent corruption as hardware makes one: a bit of one number changes in memory, and torch sees nothing of it.

UPSET = "KIND STEP WHERE ELEMENT BIT" plants one: a weight before the step, a gradient or the optimizer's state before
the update, an activation on its way into a layer, or a bias' gradient, which is a sum over the batch (a reduction).
Without it every call here does nothing; both runs of a pair run the same code.
"""

import os

import torch

WORDS = os.environ.get("UPSET", "").split()
KIND = WORDS[0] if WORDS else ""
STEP, WHERE, ELEMENT, BIT = (int(word) for word in WORDS[1:]) if WORDS else (-1, 0, 0, 0)


def flip(tensor: torch.Tensor) -> None:
    """The bit of one element, through memory: no operation, no new version of the tensor."""
    numbers = tensor.detach().numpy().reshape(-1).view("u4")
    numbers[ELEMENT % len(numbers)] ^= 1 << BIT


def before_forward(model: torch.nn.Module, step: int) -> None:
    if step != STEP:
        return
    if KIND == "weight":
        flip(_one([p for p in model.parameters() if p.dim() > 1]))
    elif KIND == "activation":
        layers = [m for m in model.modules() if isinstance(m, (torch.nn.Linear, torch.nn.Conv2d, torch.nn.LayerNorm))]
        handle = _one(layers[1:]).register_forward_pre_hook(lambda module, given: (flip(given[0]), handle.remove())[1])


def before_update(model: torch.nn.Module, optimizer: torch.optim.Optimizer, step: int) -> None:
    if step != STEP:
        return
    if KIND == "gradient":
        flip(_one([p.grad for p in model.parameters() if p.grad is not None and p.dim() > 1]))
    elif KIND == "reduction":
        flip(_one([p.grad for p in model.parameters() if p.grad is not None and p.dim() == 1]))
    elif KIND == "state":
        kept = [v for p in model.parameters() for v in optimizer.state[p].values() if v is not None and v.numel() > 1]
        flip(_one(kept))


def _one(things):
    return things[WHERE % len(things)]


def seeded(what: str) -> int:
    """The seed of one source of chance; UNSEEDED names those that are left to chance."""
    return torch.seed() if what in os.environ.get("UNSEEDED", "").split() else 5
