"""What active mode promises, part by part: safety of an update, snapshots, the window, spikes, guarded operations."""

import math

import pytest
import torch
from torch import nn

from nandoctor.trace.schema import KIND, NO_SHAPE, ROW
from nandoctor.treat import clipping, data, operations, softmax
from nandoctor.treat.applied import Gradients
from nandoctor.treat.finite import mend_
from nandoctor.treat.rounds import gradients_of
from nandoctor.treat.safety import Safety, proved
from nandoctor.treat.snapshots import KEPT, Snapshot, Snapshots, restore, state_tensors
from nandoctor.treat.vitals import Series
from nandoctor.treat.window import Window

INF = float("inf")


def parameters(*values, dtype=torch.float32):
    found = []
    for value in values:
        parameter = nn.Parameter(torch.ones(3, dtype=dtype))
        parameter.grad = torch.full((3,), value, dtype=dtype)
        found.append(parameter)
    return found


OPTIMIZERS = {
    "Adam with eps 0": (lambda p: torch.optim.Adam(p, lr=0.1, eps=0.0), 0.0),
    "Adam whose square overflows": (lambda p: torch.optim.Adam(p, lr=0.1), 1e30),
    "AdamW with amsgrad": (lambda p: torch.optim.AdamW(p, lr=0.1, amsgrad=True), 1e25),
    "RMSprop with eps 0": (lambda p: torch.optim.RMSprop(p, lr=0.1, eps=0.0), 0.0),
    "Adagrad, whose sum overflows": (lambda p: torch.optim.Adagrad(p, lr=0.1), 1e19),
    "SGD whose step overflows": (lambda p: torch.optim.SGD(p, lr=1e30, momentum=0.9), 1e20),
    "SGD with momentum above 1": (lambda p: torch.optim.SGD(p, lr=0.1, momentum=1e12), 1e20),
    "an lr that is NaN": (lambda p: torch.optim.SGD(p, lr=math.nan), 1.0),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_neither_a_weight_nor_a_state_is_ever_non_finite_after_a_step(name):
    make, gradient = OPTIMIZERS[name]
    weights = parameters(gradient, 0.1)
    optimizer = make(weights)
    safety = Safety(Snapshots())
    said = []
    for _ in range(4):
        safety.before(optimizer, gradients_of(optimizer, 1.0))
        optimizer.step()
        safety.after(optimizer, said.append)
        held = [*weights, *state_tensors(optimizer, weights)]
        assert all(bool(torch.isfinite(tensor).all()) for tensor in held)
    assert said


def test_an_ordinary_step_needs_no_copies():
    weights = parameters(0.5, 2.0)
    for optimizer in (torch.optim.AdamW(weights, lr=1e-3), torch.optim.SGD(weights, lr=0.1, momentum=0.9)):
        assert proved(optimizer, gradients_of(optimizer, 1.0))


def test_weights_in_half_are_never_taken_for_granted():
    weights = parameters(0.5, dtype=torch.float16)
    assert not proved(torch.optim.Adam(weights, lr=1e-3), gradients_of(torch.optim.Adam(weights, lr=1e-3), 1.0))


def test_a_weight_that_somebody_else_broke_gets_its_last_good_value_back():
    (weight,) = parameters(0.1)
    optimizer = torch.optim.SGD([weight], lr=0.1)
    snapshots = Snapshots()
    snapshots.take(0, [optimizer], [])
    with torch.no_grad():
        weight[1] = math.nan
    said = []
    Safety(snapshots).after(optimizer, said.append)
    assert weight.tolist() == [1.0, 1.0, 1.0] and "last good values" in said[0]


def test_a_rollback_brings_back_weights_buffers_and_state():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)

    def step():
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()

    step()
    snapshots = Snapshots()
    assert snapshots.take(1, [optimizer], list(model.buffers()))
    before = {key: value.clone() for key, value in model.state_dict().items()}
    moments = [tensor.clone() for tensor in state_tensors(optimizer, list(model.parameters()))]
    step()
    restore(snapshots.kept[0])

    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    again = state_tensors(optimizer, list(model.parameters()))
    assert all(torch.equal(a, b) for a, b in zip(again, moments, strict=True))


def test_of_many_snapshots_the_first_and_the_newest_stay():
    snapshots = Snapshots()
    for step in range(0, 800, 8):
        snapshots.kept.append(Snapshot(step, [], []))
        snapshots._thin()
    steps = [snapshot.step for snapshot in snapshots.kept]
    assert len(steps) == KEPT and steps[0] == 0 and steps[-1] == 792


def test_a_non_finite_weight_is_no_snapshot():
    (weight,) = parameters(0.1)
    with torch.no_grad():
        weight[0] = INF
    assert not Snapshots().take(0, [torch.optim.SGD([weight], lr=0.1)], [])


def test_noise_is_no_alarm_and_a_jump_is():
    noise = torch.Generator().manual_seed(1)
    series = Series()
    assert not any(series.add(math.exp(0.3 * float(torch.randn((), generator=noise)))) for _ in range(200))
    assert series.add(30.0) and series.add(math.nan)


def test_what_lies_before_a_treatment_is_no_evidence_any_more():
    window = Window()
    window.note("incident", {"step": 3})
    for step in range(6):
        window.rows(ROW.pack(step, 0, NO_SHAPE, 0, KIND["loss"], 0, 0, 0, 0.0, 0.0, float(step)))
    assert window.trace().rows("loss")["value"].tolist() == [0, 1, 2, 3, 4, 5]

    window.forget(6)
    window.rows(ROW.pack(6, 0, NO_SHAPE, 0, KIND["loss"], 0, 0, 0, 0.0, 0.0, 9.0))

    trace = window.trace()
    assert trace.rows("loss")["step"].tolist() == [0] and trace.notes_of("incident") == []


@pytest.mark.parametrize("op, x", [
    ("log", 0.0), ("log", -1.0), ("log1p", -1.0), ("sqrt", 0.0), ("rsqrt", 0.0), ("reciprocal", 0.0),
    ("acos", 1.0), ("asin", -1.5), ("exp", 1e3), ("logit", 1.0), ("norm", 0.0),
])  # fmt: skip
def test_a_guarded_operation_and_its_derivative_are_finite(op, x):
    value = torch.tensor([x, 0.25], requires_grad=True)
    result = operations.kept_inside(op, getattr(torch, op), (value,), {})
    result.sum().backward()
    assert bool(torch.isfinite(result).all()) and bool(torch.isfinite(value.grad).all())


@pytest.mark.parametrize("op", ["log", "sqrt", "acos", "exp", "reciprocal"])
def test_inside_its_domain_an_operation_gives_what_it_gave(op):
    value = torch.tensor([0.25, 0.5])
    assert torch.equal(operations.kept_inside(op, getattr(torch, op), (value,), {}), getattr(torch, op)(value))


def test_a_division_by_zero_gives_zero_with_a_finite_derivative():
    above, below = torch.tensor([0.0, 3.0, 4.0], requires_grad=True), torch.tensor([0.0, 0.0, 2.0], requires_grad=True)
    result = operations.divided("div", torch.div, (above, below), {})
    result.sum().backward()
    assert result.tolist() == [0, 0, 2]
    assert bool(torch.isfinite(above.grad).all()) and bool(torch.isfinite(below.grad).all())


def test_a_row_that_is_masked_entirely_gives_zeros_and_the_others_what_they_gave():
    scores = torch.tensor([[0.0, 1.0], [-INF, -INF]], requires_grad=True)
    weights = softmax.opened("softmax", torch.softmax, (scores,), {"dim": -1})
    (weights * torch.tensor([1.0, 2.0])).sum().backward()
    assert torch.equal(weights[0], torch.softmax(scores[0], -1)) and weights[1].tolist() == [0, 0]
    assert bool(torch.isfinite(scores.grad).all())


def test_a_loud_sample_a_wrong_entry_and_a_raw_column_are_told_apart():
    x = torch.randn(64, 5, generator=torch.Generator().manual_seed(0))
    scales = data.learn(x)
    loud = x.clone()
    loud[3] *= 1e4
    loud[7, 2] = 5e5
    tamed = data.apart(loud, scales)
    assert torch.equal(tamed[[0, 1, 2]], x[[0, 1, 2]])
    assert torch.allclose(tamed[3] / tamed[3].norm(), x[3] / x[3].norm(), atol=1e-3)  # its direction is kept
    assert torch.equal(tamed[7, [0, 1, 3, 4]], x[7, [0, 1, 3, 4]]) and tamed[7, 2] < 5

    raw = x.clone()
    raw[:, 4] = 20_000 + 9_000 * x[:, 4]
    again = data.apart(raw, data.learn(raw))
    assert torch.equal(again[:, :4], x[:, :4]) and float(again[:, 4].abs().max()) < 10


def test_missing_values_become_the_mean_of_their_column_and_inf_its_end():
    x = torch.tensor([[1.0, math.nan], [3.0, 4.0], [INF, 6.0]])
    assert data.without_nonfinite(x).tolist() == [[1, 5], [3, 4], [3, 6]]
    assert data.without_nonfinite(torch.ones(2, 2)) is None


def test_a_sample_without_a_finite_target_is_left_out_of_its_batch():
    x, y = torch.ones(3, 2), torch.tensor([[1.0], [math.nan], [2.0]])
    left, targets = data.batch_without_nonfinite([x, y])
    assert left.shape == (2, 2) and targets.flatten().tolist() == [1, 2]


@pytest.mark.parametrize("norm, kept", [(20.0, 5.0), (8.0, 2.0), (3.0, 1.0), (0.5, 0.5)])
def test_the_ladder_of_nan_root_cause(norm, kept):
    (weight,) = parameters(0.0)
    weight.grad = torch.tensor([norm, 0.0, 0.0])
    optimizer = torch.optim.SGD([weight], lr=0.1)
    applied = clipping.ladder(None)
    applied.gradients(gradients_of(optimizer, 1.0))
    assert float(weight.grad.norm()) == pytest.approx(kept, rel=1e-4)
    assert applied.factor(optimizer) == (0.5 if norm > 10 else 1.0)


def test_repairing_puts_zeros_and_keeps_the_rest():
    gradient = torch.tensor([1.0, math.nan, -INF, 2.0])
    assert mend_(gradient) == 2 and gradient.tolist() == [1, 0, 0, 2]


def test_a_gradient_with_a_huge_norm_is_still_finite():
    found = gradients_of(torch.optim.SGD(parameters(3e38), lr=0.1), 1.0)
    assert isinstance(found, Gradients) and found.finite and found.total > 3e38
