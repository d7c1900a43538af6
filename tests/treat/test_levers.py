"""What a cure holds on to: every optimizer's weights, the best level, one network for acting and training."""

import torch
from torch import nn

from nandoctor.treat.batchnorm import ALWAYS, Alone
from nandoctor.treat.data import alike
from nandoctor.treat.snapshots import Snapshot, Snapshots, restore
from nandoctor.treat.weighing import far_below
from tests.treat.runs import treated

PAST_THE_SCALER = """
import torch
from torch import nn
torch.manual_seed(0)
left, right = nn.Linear(8, 32), nn.Linear(32, 1)
first = torch.optim.SGD(left.parameters(), lr=0.1)
second = torch.optim.SGD(right.parameters(), lr=0.1)
scaler = torch.amp.GradScaler("cpu")
x = torch.randn(512, 8)
y = x[:, :1].tanh()
for step in range(100):
    place = torch.randint(0, 512, (32,))
    with torch.autocast("cpu", dtype=torch.float16):
        output = right(torch.relu(left(x[place])))
    loss = nn.functional.mse_loss(output.float(), y[place])
    first.zero_grad()
    second.zero_grad()
    scaler.scale(loss).backward()
    scaler.step(first)
    second.step()
    scaler.update()
print("final", float((right(torch.relu(left(x))) - y).square().mean()))
"""

NO_CHOICE = """
import torch
from torch import nn
torch.manual_seed(0)
policy = nn.Linear(2, 3)
optimizer = torch.optim.Adam(policy.parameters(), lr=0.05)
for step in range(80):
    state = torch.randn(64, 2)
    allowed = (state[:, :1] > 0).expand(64, 3)  # nothing is, where the first entry is below 0
    scores = policy(state).masked_fill(~allowed, float("-inf"))
    choice = torch.distributions.Categorical(logits=torch.log_softmax(scores, -1))
    action = choice.sample()
    reward = (action == 2).float()
    loss = -(choice.log_prob(action) * (reward - reward.mean())).mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
closed = torch.randn(500, 2)
closed[:, 0] = -closed[:, 0].abs()
print("final", 1 - float(policy(closed).softmax(-1)[:, 2].mean()))
"""


def test_a_step_past_the_scaler_is_found_by_what_it_did_and_both_optimizers_go_back(tmp_path):
    run = treated(tmp_path, "past", program=PAST_THE_SCALER)
    assert run.events("applied")[0] == "amp-order", run.stderr
    assert run.loss < 0.1, run.stderr


def test_a_policy_learns_where_its_mask_forbids_everything(tmp_path):
    run = treated(tmp_path, "choice", program=NO_CHOICE)
    assert run.exit_code == 0 and run.loss < 0.5, run.stderr
    assert any("forbids none" in line for line in run.said)


def test_an_optimizer_that_steps_later_is_in_the_snapshots_as_it_began():
    one, other = nn.Linear(2, 2), nn.Linear(2, 2)
    snapshots, later = Snapshots(), torch.optim.SGD(other.parameters(), lr=0.1)
    snapshots.take(0, [torch.optim.SGD(one.parameters(), lr=0.1)], [])
    snapshots.met(later)
    before = other.weight.detach().clone()
    with torch.no_grad():
        other.weight.fill_(7.0)
    restore(snapshots.kept[0])
    assert torch.equal(other.weight, before)


def test_the_last_snapshot_before_the_best_level_is_kept():
    snapshots = Snapshots()
    for step in range(0, 800, 8):
        snapshots.kept.append(Snapshot(step, [], []))
        snapshots._thin(best=min(step, 203))
    steps = [snapshot.step for snapshot in snapshots.kept]
    assert steps[0] == 0 and steps[-1] == 792 and 200 in steps


def test_data_brought_to_scale_have_to_be_far_better_than_what_goes_on():
    assert far_below([1.0] * 20, [3e9] * 20, 3e10)
    assert not far_below([1.0] * 20, [1.5] * 20, 2.3)
    assert not far_below([1.0] * 20, [3e9] * 20, 5.0)  # no better than it began


def test_a_layer_that_acts_on_one_row_more_often_than_it_trains_uses_one_set_of_statistics():
    alone, layer = Alone(), nn.BatchNorm1d(2)
    for _ in range(ALWAYS):
        alone.called(layer, 1)
    assert alone.mostly(layer)
    for _ in range(2 * ALWAYS):
        alone.called(layer, 16)
    assert not alone.mostly(layer)


def test_a_target_network_shares_the_scales_of_its_model():
    assert alike(nn.Linear(3, 2)) == alike(nn.Linear(3, 2)) != alike(nn.Linear(3, 4))
