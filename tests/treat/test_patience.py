"""A verdict read from a size alone waits while the run learns, and acts where it does not, or has lost it again."""

import math
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from clinic.opponents import fingerprint
from nandoctor.treat.patience import STALE, foremost, stale, waits
from nandoctor.treat.vitals import LATE, Vitals
from tests.treat.runs import treated


def vitals_of(losses):
    vitals = Vitals()
    for loss in losses:
        vitals.loss.add(loss)
        vitals.loss_is(loss)
    return vitals


def noisy(level, count=LATE):
    return [level * (1 + 0.02 * math.sin(7 * k)) for k in range(count)]


COURSES = {
    "falls": ([*noisy(2.3), *noisy(1.8)], True),
    "falls, with a peak that came back": ([*noisy(2.3), 900.0, *noisy(1.8)], True),
    "falls in crumbs, far beyond its noise": ([2.7e-5 - 1e-8 * k for k in range(40)], True),
    "hovers": (noisy(2.3, 32), False),
    "hovers, and has hardly begun": (noisy(2.3, 24), None),
    "has lost what it had won": ([*noisy(2.3), *noisy(1.0), *noisy(2.2, 16)], False),
    "rises": ([*noisy(2.3), *noisy(3.1)], False),
    "is too short to say": (noisy(2.3, 12), None),
}


@pytest.mark.parametrize("name", COURSES)
def test_a_run_learns_that_is_surely_below_its_start_and_keeps_it(name):
    losses, expected = COURSES[name]
    assert vitals_of(losses).learning() is expected


def opinion(cause, failed=False, peak=0.2, loud=None, harm=False, confidence=0.95):
    data = SimpleNamespace(loudest_ratio=loud)
    optimizer = SimpleNamespace(update_ratio_peak=peak, update_ratio_first=peak)
    evidence = SimpleNamespace(bad=None, data=data, optimizer=optimizer, denominator=None)
    return SimpleNamespace(cause=cause, failed=failed, evidence=evidence, harm=harm, confidence=confidence)


def test_size_alone_waits_for_a_run_that_learns_or_has_hardly_begun():
    learning, begun = vitals_of([*noisy(2.3), *noisy(1.8)]), vitals_of([2.3, 2.2])
    for cause in ("lr-too-high", "data-outlier"):
        assert waits(opinion(cause), learning) and waits(opinion(cause), begun)
        assert not waits(opinion(cause), vitals_of(noisy(2.3, 32)))


def test_what_has_failed_or_is_torn_or_no_size_does_not_wait():
    learning = vitals_of([*noisy(2.3), *noisy(1.8)])
    assert not waits(opinion("lr-too-high", failed=True), learning)
    assert not waits(opinion("lr-too-high", peak=1.5), vitals_of([2.3, 35.0]))
    assert waits(opinion("lr-too-high", peak=1.5), vitals_of([2.3, 2.1])), "zeros that became weights"
    assert not waits(opinion("data-outlier", loud=2e4), learning)
    assert not waits(opinion("gradient-accumulation-bug"), learning)


def test_raw_data_do_not_wait_where_they_have_done_harm():
    learning = vitals_of([*noisy(2.3), *noisy(1.8)])
    assert not waits(opinion("data-outlier", harm=True), learning)
    assert waits(opinion("lr-too-high", harm=True), learning)


def test_a_mistake_that_was_seen_goes_before_a_size_that_has_to_wait():
    learning = vitals_of([*noisy(2.3), *noisy(1.8)])
    size, seen = opinion("data-outlier"), opinion("fp16-overflow", confidence=0.92)
    assert foremost([size, seen], learning) is seen
    assert foremost([size, opinion("fp16-overflow", confidence=0.6)], learning) is size
    assert foremost([], learning) is None


def test_subnormal_gradients_wait_where_a_loss_scale_is_held_and_nowhere_else():
    learning = vitals_of([*noisy(2.3), *noisy(1.8)])
    assert waits(opinion("fp16-underflow"), learning, 65536.0)
    assert not waits(opinion("fp16-underflow"), learning, 1.0) and not waits(opinion("fp16-underflow"), learning)
    assert not waits(opinion("fp16-underflow"), vitals_of(noisy(2.3, 32)), 65536.0)


def test_what_was_computed_before_every_operation_was_mended_may_run_out():
    trial = SimpleNamespace(key="unknown", since=2, applied=SimpleNamespace(name="operations"))
    assert stale([trial], 3) and not stale([trial], 2 + STALE)
    trial.key = "unsafe-op log train.py:3"
    assert not stale([trial], 3)


SLOW_START = """
import sys, torch
from torch import nn
torch.manual_seed(0)
x = torch.randn(512, 16) * 124
y = (x[:, :4]).argmax(1)
net = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = net
    def forward(self, x):
        return self.net(x / x.pow(2).mean(1, keepdim=True).sqrt() * 0.5)
model = Model()
optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
for step in range(150):
    rows = torch.randint(0, 512, (64,))
    loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
torch.save(model.state_dict(), sys.argv[1] + ".pt")
print(nn.functional.cross_entropy(model(x), y).item())
"""


def test_raw_data_that_the_model_itself_brings_to_size_are_left_alone(tmp_path):
    run = treated(tmp_path, "treated", program=SLOW_START)
    (tmp_path / "plain.py").write_text(SLOW_START)
    subprocess.run([sys.executable, "plain.py", "plain"], cwd=tmp_path, check=True, stdout=subprocess.DEVNULL)

    assert not run.actions and run.loss < 0.8
    weights = [list(torch.load(tmp_path / f"{name}.pt").values()) for name in ("treated", "plain")]
    assert fingerprint(weights[0]) == fingerprint(weights[1])
    assert fingerprint(weights[0]) != fingerprint([nn.Parameter(w) + 1e-7 for w in weights[1]])
