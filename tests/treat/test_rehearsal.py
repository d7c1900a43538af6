"""Forked copies of the training choose between treatments, and the training does not notice."""

import math

import pytest
import torch
from torch import nn

from nandoctor.treat import batchnorm, data, initialization, operations
from nandoctor.treat.rehearsal import LEAST, Rehearsal, best_of, search
from tests.treat.runs import treated

HOT = """
import random, sys, torch
from torch import nn
torch.manual_seed(0)
random.seed(0)
x = torch.randn(512, 8)
y = (x[:, :1] * 1.5 - x[:, 1:2]).tanh()
model = nn.Sequential(nn.Linear(8, 32), nn.Tanh(), nn.Linear(32, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=20.0 if sys.argv[2] == "sick" else 0.2, momentum=0.9)
for step in range(150):
    rows = torch.randint(0, 512, (32,))
    loss = nn.functional.mse_loss(model(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    EACH
with torch.no_grad():
    print(step, random.random(), nn.functional.mse_loss(model(x), y).item())
"""


def hot(each):
    return HOT.replace("EACH", each)


def test_the_rate_is_rehearsed_and_recovers_what_arithmetic_alone_does_not_find(tmp_path):
    run = treated(tmp_path, "", program=hot("pass"))

    assert run.exit_code == 0 and run.loss < 0.02
    assert any("were rehearsed" in line for line in run.said)


def test_a_copy_that_would_write_a_file_ends_before_it_does(tmp_path):
    run = treated(tmp_path, "", program=hot("print(step, file=open('steps', 'a'))"))

    assert [int(line) for line in (tmp_path / "steps").read_text().split()] == list(range(150))
    assert run.exit_code == 0 and math.isfinite(run.loss)


def test_copies_print_nothing_and_draw_no_random_number_of_the_training(tmp_path):
    run = treated(tmp_path, "", program=hot("pass") + "print(float(torch.rand(())), run := 1.0)\n")
    again = treated(tmp_path, "", program=hot("pass") + "print(float(torch.rand(())), run := 1.0)\n", sick=False)

    assert run.exit_code == again.exit_code == 0  # both printed one line with a number at its end
    assert run.loss == again.loss == 1.0


def test_of_equal_candidates_the_largest_step_is_taken():
    flat = [1.0 + 0.01 * (-1) ** n for n in range(30)]
    worse = [loss + 0.5 for loss in flat]
    assert best_of({0.25: flat, 1.0: list(flat), 4.0: worse}) == 1.0
    assert best_of({1.0: [math.inf], 0.25: flat[: LEAST - 1]}) is None


class Told(Rehearsal):
    """Answers from a formula instead of a copy."""

    def __init__(self, best):
        self.copy, self.best, self.asked = None, best, []

    def losses(self, candidate):
        times = candidate()
        self.asked.append(times)
        return [1 + abs(math.log(times / self.best))] * 20


@pytest.mark.parametrize("best", [0.01, 0.5, 1.0, 9.0])
def test_the_search_goes_outwards_and_then_halfway(best):
    rehearsal = Told(best)
    found = search(rehearsal, lambda times: times, 4.0)

    assert found is not None and len(found) <= 9
    assert abs(math.log(best_of(found) / best)) <= math.log(2.0) + 1e-9


# --- what else is mended at its root ---------------------------------------------------------------------------
def test_what_is_no_data_of_a_logarithm_becomes_the_least_of_the_data():
    x = torch.tensor([-2.0, 0.0, 0.5, 1.0])
    assert torch.equal(operations.kept_inside("log", torch.log, (x,), {}), torch.tensor([0.5, 0.5, 0.5, 1.0]).log())
    assert operations.kept_inside("rsqrt", torch.rsqrt, (torch.tensor([0.0, 4.0]),), {}).tolist() == [0.0, 0.5]


def test_infinity_is_the_largest_of_its_column_and_nan_its_mean():
    x = torch.tensor([[1.0], [3.0], [math.inf], [-math.inf], [math.nan]])
    assert data.without_nonfinite(x).flatten().tolist() == pytest.approx([1.0, 3.0, 3.0, 1.0, 2.0])


def test_a_long_tail_is_normalised_as_everybody_does():
    x = torch.distributions.Exponential(0.01).sample((4000, 1))
    assert float(data.learn(x).scale) == pytest.approx(float(x.std()), rel=0.01)


def test_batches_of_one_alone_are_known_from_leftovers():
    alone, layer = batchnorm.Alone(), nn.BatchNorm1d(3)
    alone.called(layer, 32)
    for _ in range(5):
        alone.called(layer, 1)
    assert not alone.always() and alone.share == 1 / 32
    other = nn.BatchNorm1d(3)
    for _ in range(batchnorm.ALWAYS):
        alone.called(other, 1)
    assert alone.always()


def test_a_first_weight_keeps_the_scale_of_its_layer():
    layer = nn.Linear(64, 64)
    with torch.no_grad():
        layer.weight.mul_(100)
        assert initialization.fit_(layer.weight, layer, "weight")
    assert float(layer.weight.detach().std()) == pytest.approx(1 / math.sqrt(3 * 64), rel=0.01)
