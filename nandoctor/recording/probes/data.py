"""Batches drawn from a DataLoader: every tensor inside them, and the epochs."""

import sys
from typing import Any

from torch import Tensor, is_grad_enabled
from torch.utils.data import dataloader

from ...trace.schema import BAD
from ..attach import wrap_function
from ..autopsy.incidents import Alarms
from ..frames import user_place
from ..incident import Place
from ..nested import tensors
from ..run import BadTensor, Run
from ..stats import away, is_countable, measurable, measure, measure_integers, word

IGNORED = -100  # the label that torch's losses leave out by default
AHEAD = ("accelerate.data_loader",)  # modules that draw the next batch before they hand out the one before it


def install(run: Run, alarms: Alarms) -> None:
    recorder = run.recorder
    numbers: dict[int, int] = {}  # id of a data set -> its number
    begun: dict[int, int] = {}  # iterations begun over it
    trained_on: set[int | None] = set()  # numbers of data sets
    handed_out_next: list[BadTensor] = []  # found in the batch drawn last

    def drawing(iterator: Any) -> None:
        number = numbers.setdefault(id(iterator._dataset), len(numbers))
        if iterator._num_yielded == 0:
            begun[number] = begun.get(number, 0) + 1
            recorder.value("epoch", recorder.subject(f"loader.{number}", "loader"), 1.0)
        recorder.epoch = begun[number] - 1  # of the loader that is drawn from: the validation loader counts for itself

    def drawn(batch: Any, iterator: Any) -> None:
        # wrapper, guard, drawn: whose next() was it?
        ahead = sys._getframe(3).f_globals.get("__name__") in AHEAD
        run.bad_data[:] = [bad for bad in run.bad_data if ahead and bad in handed_out_next]
        run.loader_seen = True
        if not recorder.governor.whole:
            alarms.drawn_without_backward()
        before, mode = len(run.bad_data), mode_of_draw(run, numbers.get(id(iterator._dataset)), trained_on)
        for path, tensor in tensors(batch):
            record(run, path, tensor, mode)
        handed_out_next[:] = run.bad_data[before:]

    wrap_function(
        [dataloader._BaseDataLoaderIter], "__next__", recorder.guard("data", drawing), recorder.guard("data", drawn)
    )


def mode_of_draw(run: Run, dataset: int | None, trained_on: set[int | None]) -> str:
    """Validation draws under no_grad (Lightning) or after model.eval() (the HF Trainer, most loops).

    The first training batches after an evaluation may be drawn before model.train(): their data set is known by then.
    """
    if not is_grad_enabled():
        return "eval"
    tops = [top for model in run.names.models if model.parameters and (top := model.ref()) is not None]
    if any(top.training for top in tops):
        trained_on.add(dataset)
    return "eval" if tops and dataset not in trained_on else "train"


def record(run: Run, path: str, tensor: Tensor, mode: str) -> None:
    recorder = run.recorder
    if measurable(tensor):
        subject = recorder.subject(path, "batch")
        if away(tensor):
            recorder.add_later("batch", subject, tensor, mode=mode)
            return
        stats = measure(tensor)
        recorder.add("batch", subject, stats, tensor, BAD if stats.bad else 0, mode)
        if stats.bad:
            first, kind = recorder.nonfinite_detail(subject, tensor, mode)
            run.bad_data.append(find_bad(tensor, path, first, kind, "batch"))
    elif is_countable(tensor):
        low, high, _ = measure_integers(tensor)
        ignored = float((tensor == IGNORED).sum()) if low < 0 else 0.0
        recorder.add("labels", recorder.subject(path, "batch"), (low, high, ignored), tensor, mode=mode)


def find_bad(tensor: Tensor, path: str, first: int, kind: str, source: str, root: str | None = None) -> BadTensor:
    """Row and index within the row of the flat index `first`; the line that drew or passed it."""
    width = max(tensor.numel() // max(tensor.shape[0] if tensor.dim() else 1, 1), 1)
    place = user_place() if source == "batch" else Place()
    return BadTensor(
        path, first // width, first % width, kind, place, source, word(tensor.dtype), root
    )
