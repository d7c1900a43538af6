"""Checkpoints read and written, and weights that come from them."""

from typing import Any

import torch

from ..attach import watch_method, wrap_function
from ..frames import user_place
from ..run import Run


def install(run: Run) -> None:
    recorder = run.recorder

    def event(name: str) -> None:
        recorder.value("checkpoint", recorder.subject(name, "call"), 1.0)

    def weights_loaded(_: Any) -> None:
        run.foreign, run.foreign_place = "load_state_dict", user_place()
        event("load_state_dict")

    guard = recorder.guard
    watch_method(torch.nn.Module, "load_state_dict", guard("checkpoint", weights_loaded))
    places = [torch, torch.serialization]
    wrap_function(places, "load", before=guard("checkpoint", lambda *_, **__: event("load")))
    wrap_function(places, "save", before=guard("checkpoint", lambda *_, **__: event("save")))
