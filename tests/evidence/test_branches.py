"""Which weight matrices follow each other, and which stand side by side."""

from types import SimpleNamespace

import numpy as np
import pytest

from nandoctor.evidence.depth import branches


def grouped(named):
    """named: (name, shape) of weight matrices in the model's order; shapes stand for their numbers."""
    trace = SimpleNamespace(subjects={n: SimpleNamespace(name=name) for n, (name, _) in enumerate(named)})
    rows = np.array([(n, shape) for n, (_, shape) in enumerate(named)], dtype=[("subject", "u4"), ("shape", "u4")])
    found = branches(trace, rows, list(range(len(named))))
    return sorted(sorted(named[n][0].removesuffix(".weight") for n in branch) for branch in found)


def test_an_actor_and_a_critic_stand_side_by_side():
    net = [("policy_net.0.weight", 1), ("policy_net.2.weight", 2), ("value_net.0.weight", 1), ("value_net.2.weight", 2),
           ("action.weight", 3), ("value.weight", 4)]  # fmt: skip
    assert grouped(net) == [["action", "value"], ["policy_net.0", "policy_net.2"], ["value_net.0", "value_net.2"]]


def test_so_do_they_inside_a_wrapper():
    net = [("net.actor.0.weight", 1), ("net.actor.2.weight", 2), ("net.critic.0.weight", 1), ("net.critic.2.weight", 5)]
    assert grouped(net) == [["net.actor.0", "net.actor.2"], ["net.critic.0", "net.critic.2"]]


@pytest.mark.parametrize("names", [
    ["fc1", "fc2", "fc3"],
    ["layers.0", "layers.2", "layers.4"],
    ["blocks.0.up", "blocks.0.down", "blocks.1.up", "blocks.1.down"],
    ["embed", "block1.conv.a", "block1.conv.b", "block2.conv.a", "block2.conv.b", "head"],
])
def test_layers_that_follow_each_other_are_one_branch(names):
    assert grouped([(f"{name}.weight", 1) for name in names]) == [sorted(names)]
