"""Optimizers as people use them: fused, several, with groups, closures, schedulers, GradScaler, accumulation, clips."""

import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn
from torch.optim import lr_scheduler as schedules

from nandoctor.treat.rounds import Rounds
from tests.treat.runs import treated

PROGRAM = """
import sys, torch
from torch import nn
torch.manual_seed(0)
sick = sys.argv[2] == "sick"
x = torch.randn(512, 8)
y = (x[:, :1] * 1.5 - x[:, 1:2]).tanh()
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
scaler = torch.amp.GradScaler("cpu", enabled=False)
STEP = lambda optimizer, loss: (loss.backward(), optimizer.step())
SETUP
for step in range(80):
    rows = torch.randint(0, 512, (32,))
    output = model(x[rows])
    squares = (output - output.detach()).square().sum(1)
    distance = squares.sqrt() if sick else (squares + 1e-12).sqrt()
    loss = nn.functional.mse_loss(output, y[rows]) + 1e-4 * distance.mean()
    for optimizer in optimizers:
        optimizer.zero_grad()
    BODY
    state = [t for o in optimizers for s in o.state.values() for t in s.values() if isinstance(t, torch.Tensor)]
    assert all(bool(t.isfinite().all()) for t in [*model.parameters(), *state]), step
with torch.no_grad():
    print(nn.functional.mse_loss(model(x), y).item())
"""
PLAIN = "loss.backward()\n    for optimizer in optimizers: optimizer.step()"
SCALED = "scaler.scale(loss).backward()\n    for optimizer in optimizers: scaler.step(optimizer)\n    scaler.update()"
ADAM = "optimizers = [torch.optim.Adam(model.parameters(), lr=5e-3{})]"
SETUPS = {
    "fused": (ADAM.format(", fused=True"), PLAIN),
    "fused, with a scaler": (ADAM.format(", fused=True") + "; scaler = torch.amp.GradScaler('cpu', init_scale=16.)",
                             SCALED),
    "with a scaler": (ADAM.format("") + "; scaler = torch.amp.GradScaler('cpu', init_scale=16.)", SCALED),
    "foreach": (ADAM.format(", foreach=True"), PLAIN),
    "two": ("optimizers = [torch.optim.Adam(model[0].parameters(), lr=5e-3),"
            " torch.optim.SGD(model[2].parameters(), lr=0.1)]", PLAIN),
    "groups": ("optimizers = [torch.optim.AdamW([{'params': model[0].parameters(), 'lr': 1e-2},"
               " {'params': model[2].parameters()}], lr=5e-3)]", PLAIN),
    "a closure": (ADAM.format(""), "def closure():\n        loss.backward()\n        return loss\n"
                  "    optimizers[0].step(closure)"),
    "accumulated": (ADAM.format(""), "(loss / 2).backward(retain_graph=True)\n    (loss / 2).backward()\n"
                    "    optimizers[0].step()"),
    "clipped by the script": (ADAM.format(""), "loss.backward()\n"
                              "    nn.utils.clip_grad_norm_(model.parameters(), 1.0)\n    optimizers[0].step()"),
}  # fmt: skip


@pytest.mark.parametrize("name", SETUPS)
def test_no_weight_and_no_state_is_ever_non_finite_and_the_run_recovers(name, tmp_path):
    setup, body = SETUPS[name]
    program = PROGRAM.replace("SETUP", setup).replace("BODY", body)

    healthy = treated(tmp_path, "", program=program, sick=False)
    sick = treated(tmp_path, "", program=program)

    assert healthy.exit_code == sick.exit_code == 0, sick.stderr
    assert not healthy.actions
    assert sick.events("applied") and sick.loss <= 1.5 * healthy.loss


SCHEDULES = {
    "step": lambda o: schedules.StepLR(o, 3), "multi-step": lambda o: schedules.MultiStepLR(o, [2, 5]),
    "lambda": lambda o: schedules.LambdaLR(o, lambda n: 1 / (1 + n)),
    "multiplicative": lambda o: schedules.MultiplicativeLR(o, lambda n: 0.9),
    "constant": lambda o: schedules.ConstantLR(o, total_iters=3), "linear": lambda o: schedules.LinearLR(o),
    "exponential": lambda o: schedules.ExponentialLR(o, 0.8), "polynomial": lambda o: schedules.PolynomialLR(o, 8),
    "cosine": lambda o: schedules.CosineAnnealingLR(o, 8),
    "warm restarts": lambda o: schedules.CosineAnnealingWarmRestarts(o, 4),
    "cyclic": lambda o: schedules.CyclicLR(o, 0.01, 0.1, 3), "one cycle": lambda o: schedules.OneCycleLR(o, 0.1, 10),
    "plateau": lambda o: schedules.ReduceLROnPlateau(o, patience=1),
    "one after another": lambda o: schedules.SequentialLR(
        o, [schedules.LinearLR(o, total_iters=3), schedules.ExponentialLR(o, 0.8)], [3]),
    "chained": lambda o: schedules.ChainedScheduler([schedules.ConstantLR(o, total_iters=2),
                                                     schedules.ExponentialLR(o, 0.8)]),
}  # fmt: skip


def rates(make, rounds):
    """The lr that each step was taken with; a group of its own rate beside the first."""
    weights = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    optimizer = torch.optim.SGD([{"params": weights[:1]}, {"params": weights[1:], "lr": 0.05}], lr=0.1, momentum=0.9)
    scheduler, seen = make(optimizer), []
    for _ in range(8):
        if rounds is not None:
            rounds._scale_rates(optimizer)
        seen += [float(group["lr"]) for group in optimizer.param_groups]
        for weight in weights:
            weight.grad = torch.ones(2)
        optimizer.step()
        if rounds is not None:
            rounds.safe_after = lambda _: None
            rounds.after_step(optimizer, (), {})
        scheduler.step(1.0) if isinstance(scheduler, schedules.ReduceLROnPlateau) else scheduler.step()
    return seen


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_factor_survives_every_scheduler_and_changes_none(name):
    doctor = SimpleNamespace(each=lambda hook: [lambda _: 0.1] if hook == "factor" else [])
    ours = rates(SCHEDULES[name], Rounds(SimpleNamespace(rules=None), doctor))

    plain = rates(SCHEDULES[name], None)
    assert len(set(plain)) > 1
    assert all(math.isclose(a, 0.1 * b, rel_tol=1e-9, abs_tol=1e-15) for a, b in zip(ours, plain, strict=True))
