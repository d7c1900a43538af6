"""Which of several processes of one training this is, as torch.distributed or its launcher tells.

Nothing here imports torch.distributed: where the user's program did not, there is only the launcher's environment.
"""

import hashlib
import os
import sys
from typing import Any

from ..trace.spool import free_output, rank_output

LAUNCH = ("MASTER_ADDR", "MASTER_PORT", "TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT")


def process_rank() -> tuple[int, int]:
    """(rank, how many processes train together). (0, 1) for a training by itself."""
    distributed: Any = sys.modules.get("torch.distributed")
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    rank, world = _number("RANK", 0), _number("WORLD_SIZE", 1)
    return (rank, world) if 0 <= rank < world else (0, 1)


def launch(session: str) -> str:
    """The same for the processes of one launch on this machine, another one for the next launch or a restart.

    They have one parent: the launcher, or the process that spawned them all.
    """
    named = [os.environ.get(name, "") for name in LAUNCH]
    text = "|".join([session, str(os.getppid()), str(process_rank()[1]), *named])
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def claimed(output: str, session: str) -> str:
    """Take a free name for this process's trace. Raises OSError where the folder cannot be written."""
    rank, world = process_rank()
    return free_output(output) if world == 1 else rank_output(output, rank, launch(session))


def _number(name: str, absent: int) -> int:
    try:
        return int(os.environ.get(name, "") or absent)
    except ValueError:  # nonsense that is not ours to judge
        return absent
