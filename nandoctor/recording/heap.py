"""Room in the C heap, so that what nandoctor keeps does not make the training fetch its memory anew at every step.

glibc gives the end of its heap back to the kernel whenever it is free. A training allocates and frees the same
activations and gradients at every step; they fit again where they lay before, unless something small and lasting was
put between them: names, code, plans. Then some lie at the end of the heap, and every step gives pages back and fetches
them again: 60 to 130 page faults a step on a perceptron of four layers, more time than all hooks together.
benchmarks/overhead.py prints the faults of every variant.
"""

import sys

BLOCK = 100_000  # bytes; glibc takes 128 KiB and more from elsewhere, until the first such block was freed
BLOCKS = 320  # 32 MiB: the largest block that glibc ever keeps in its heap. Not touched: it costs address space alone

_end: list[bytes] = []  # what lies above the room must stay, or all of it would be given back


def make_room() -> None:
    """Free room below a small lasting block. Once, before the training allocates."""
    if sys.platform != "linux" or _end:
        return
    blocks = [bytes(BLOCK) for _ in range(BLOCKS)]
    _end.append(blocks.pop())
