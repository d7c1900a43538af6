"""The room that recording leaves in the C heap."""

import subprocess
import sys

import pytest

FAULTS = """
import resource
import sys
import torch
if sys.argv[1:]:
    from nandoctor.recording.heap import make_room
    make_room()
kept = []
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for step in range(60):
    if step == 20:
        before = faults()
    first = [torch.empty(65_536) for _ in range(4)]
    kept.append(bytes(3_000))  # small and lasting, between what the step frees
    second = [torch.empty(65_536).fill_(step) for _ in range(4)]
    [t.fill_(step) for t in first]
print((faults() - before) / 40)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="another allocator")
def test_steps_that_keep_small_things_between_their_tensors_fetch_no_pages_anew():
    def measured(*room: str) -> float:
        done = subprocess.run([sys.executable, "-c", FAULTS, *room], capture_output=True, text=True, check=True)
        return float(done.stdout)

    assert measured("room") < 5  # of 512 pages that a step fills


def test_the_room_is_made_once():
    from nandoctor.recording import heap

    heap.make_room()
    kept = list(heap._end)
    heap.make_room()
    assert heap._end == kept
