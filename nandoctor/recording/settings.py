"""What `nandoctor record` told this process, by environment variables."""

import json
import os
import re
import sys
from dataclasses import dataclass
from typing import Any

from ..version import VERSION


@dataclass(frozen=True)
class Settings:
    output: str = "run.parquet"
    session: str = ""
    command: tuple[str, ...] = ()
    layers: str | None = None  # regular expression: only these layers' tensors are recorded
    watch_step: int | None = None  # look at every operation around this step
    nandoctor: str = ""
    probe: bool = False  # extra forward passes in forked copies
    budget: float = 3.0  # percent of the training's CPU time; 0: everything at every step
    whole_steps: int = 100  # recorded whole before the budget counts
    max_size: int = 256 * 2**20  # bytes of the spool, and so of the trace
    active: bool = False  # treat what is found: treat/
    policy: str = "repair"  # skip, advise
    treatments: tuple[str, ...] = ()  # that may be used; none: all
    max_actions: int | None = None
    ladder: str = "measured"  # documents

    def wants(self, layer: str) -> bool:
        return self.layers is None or re.search(self.layers, layer) is not None

    def header(self) -> dict[str, Any]:
        from .recorder import process_header

        return {
            "session": self.session,
            "command": list(self.command),
            "nandoctor": self.nandoctor,
            "rank": int(os.environ.get("RANK", "0") or 0),
            "world": int(os.environ.get("WORLD_SIZE", "1") or 1),
            **process_header(),
        }


def from_environment() -> Settings:
    """Raises ValueError or re.error for nonsense, which the parent has refused before."""
    get = os.environ.get
    watch = get("NANDOCTOR_WATCH_STEP")
    layers = get("NANDOCTOR_LAYERS") or None
    most = get("NANDOCTOR_MAX_ACTIONS")
    if layers is not None:
        re.compile(layers)
    return Settings(
        output=get("NANDOCTOR_OUTPUT") or os.path.abspath("run.parquet"),
        session=get("NANDOCTOR_SESSION", ""),
        command=tuple(json.loads(get("NANDOCTOR_COMMAND") or "null") or sys.argv),
        layers=layers,
        watch_step=int(watch) if watch else None,
        nandoctor=VERSION,
        probe=bool(get("NANDOCTOR_PROBE")),
        budget=float(get("NANDOCTOR_BUDGET", Settings.budget)),
        whole_steps=int(get("NANDOCTOR_WHOLE_STEPS", Settings.whole_steps)),
        max_size=int(get("NANDOCTOR_MAX_SIZE", Settings.max_size)),
        active=bool(get("NANDOCTOR_ACTIVE")),
        policy=get("NANDOCTOR_POLICY") or "repair",
        treatments=tuple(name for name in get("NANDOCTOR_TREAT", "").split(",") if name),
        max_actions=int(most) if most else None,
        ladder=get("NANDOCTOR_LADDER") or "measured",
    )
