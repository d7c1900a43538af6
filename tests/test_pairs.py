"""The pairs of clinic/two_runs: enough of each, and a planted corruption is one bit that torch does not see."""

import subprocess
import sys

from clinic.two_runs import BITS, EARLIEST, PAIRS, PROGRAMS, pairs


def test_there_are_fifteen_corrupted_and_fifteen_healthy_pairs_and_none_twice():
    drawn = list(pairs())
    assert sum(pair.faulty for pair in drawn) >= 15 and sum(not pair.faulty for pair in drawn) >= 15
    assert len({(pair.program, pair.name) for pair in drawn}) == len(drawn)
    for pair in drawn:
        if pair.faulty:
            _, step, *_, bit = pair.name.split()
            assert EARLIEST <= int(step) < PROGRAMS[pair.program] and int(bit) in BITS


def test_a_flip_changes_one_bit_and_no_version():
    code = """
import torch, upset
weight = torch.linspace(-1, 1, 12).view(3, 4)
before, version = weight.clone(), weight._version
upset.flip(weight)
changed = weight.flatten().view(torch.int32) ^ before.flatten().view(torch.int32)
print([(i, v) for i, v in enumerate(changed.tolist()) if v], weight._version - version)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PAIRS, env={"UPSET": "weight 3 0 19 25"}, capture_output=True, text=True
    )
    assert done.stdout.strip() == f"[(7, {1 << 25})] 0", done.stderr


def test_without_the_variable_nothing_is_planted():
    code = "import upset; print(repr(upset.KIND), upset.STEP, upset.seeded('order'))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PAIRS, env={}, capture_output=True, text=True)
    assert done.stdout.split() == ["''", "-1", "5"], done.stderr
