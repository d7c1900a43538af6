"""A folder of traces, one for each process of a distributed training: run.parquet/rank-00000.parquet and so on."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from nandoctor.errors import UserError, no_ranks
from nandoctor.trace.open import newest_trace, open_trace
from nandoctor.trace.spool import MARK, SUFFIX
from nandoctor.trace.trace import Trace

NAME = re.compile(r"rank-(\d{1,9})\.parquet(?:\.spool)?")


@dataclass(frozen=True)
class RankTraces:
    """The traces of the ranks that recorded something."""

    path: str
    traces: Mapping[int, Trace]  # by rank, in order
    unreadable: tuple[str, ...]  # why a rank's file is missing here, in words

    @cached_property
    def world(self) -> int:
        """How many ranks there were, as far as any of them says."""
        told = [trace.header.get("world") for trace in self.traces.values()]
        return max([*self.traces, 0]) + 1 if not told else max(len(self.traces), *(_whole(n) for n in told))

    @property
    def missing(self) -> list[int]:
        """Ranks that trained nothing or left nothing behind."""
        return [rank for rank in range(min(self.world, 1 << 16)) if rank not in self.traces]


def _whole(value: object) -> int:
    return value if isinstance(value, int) and 0 <= value < 1 << 20 else 0


def is_rank_folder(path: Path) -> bool:
    """Whether a path is such a folder, finished or not."""
    return path.suffix != SUFFIX and path.is_dir() and ((path / MARK).is_file() or bool(rank_files(path)))


def rank_files(folder: Path) -> dict[int, Path]:
    """The file, or the spool where there is no file yet, of each rank."""
    found: dict[int, Path] = {}
    for name in sorted(os.listdir(folder)):  # a file before its spool
        match = NAME.fullmatch(name)
        if match is not None:
            found.setdefault(int(match[1]), folder / name.removesuffix(SUFFIX))
    return dict(sorted(found.items()))


def open_ranks(folder: Path) -> RankTraces:
    """All ranks that can be read; one that is damaged or recorded nothing does not stand in the way of the others."""
    traces: dict[int, Trace] = {}
    unreadable: list[str] = []
    for rank, path in rank_files(folder).items():
        found = _tried(path)
        if isinstance(found, Trace):
            traces[rank] = found
        else:
            unreadable.append(f"rank {rank}: {found}")
    if not traces:
        raise no_ranks(str(folder), unreadable[0] if unreadable else "")
    return RankTraces(str(folder), traces, tuple(unreadable))


def _tried(path: Path) -> Trace | str:
    try:
        return open_trace(path)
    except UserError as error:
        return error.happened


def opened(path: Path | None) -> Trace | RankTraces:
    """What a command was given: a trace, a folder of ranks, or nothing, which means the newest one here."""
    path = newest_trace(Path.cwd()) if path is None else path
    return open_ranks(path) if is_rank_folder(path) else open_trace(path)
