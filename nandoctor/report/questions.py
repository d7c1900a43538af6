"""What the guide asks when nothing helps, answered from the trace as far as it goes."""

import re
from collections.abc import Iterator

from nandoctor.causes.wording import num
from nandoctor.evidence import Evidence

SOURCE = "nan-guide"
NEWEST = (2, 13)  # torch when this nandoctor was made: what it was tested with
OLD = 4  # releases behind: torch brings out about four a year
LOUD = 30.0  # times the usual: data-outlier's own line
ASKED = ("is PyTorch too old", "does CUDA match it", "is the GPU driver sound", "is the data set corrupt")


def answers(e: Evidence) -> list[str]:
    """In the guide's order."""
    return list(_all(e))


def _all(e: Evidence) -> Iterator[str]:
    yield f"Is PyTorch too old? {_age(e.style.torch)}"
    yield f"Does CUDA match it? {_cuda(e)}"
    yield f"Is the GPU driver sound? {_driver(e)}"
    yield f"Is the data set corrupt? {_data(e)}"


def _age(version: str | None) -> str:
    match = re.match(r"(\d{1,3})\.(\d{1,3})", version or "")
    if not match:
        return "The trace does not name its version: python -c 'import torch; print(torch.__version__)'"
    major, minor = int(match[1]), int(match[2])
    newest = ".".join(map(str, NEWEST))
    if (major, minor) >= NEWEST:
        return f"No: it is {version}."
    if major < NEWEST[0]:
        return f"Yes: {version} is of an older generation than {newest}; try the newest."
    behind = NEWEST[1] - minor
    said = f"{version} is {behind} release{'s' if behind > 1 else ''} behind {newest}"
    return f"Yes: {said}; try the newest." if behind >= OLD else f"Hardly: {said}."


def _cuda(e: Evidence) -> str:
    if e.style.cuda:
        return f"It is built for CUDA {e.style.cuda}: the version that nvidia-smi shows must be no lower."
    if e.style.torch is None:
        return "The trace does not say: python -m torch.utils.collect_env"
    if "rocm" in e.style.torch:
        return f"It is built for ROCm ({e.style.torch}): rocm-smi shows the driver's version."
    return "It was built without CUDA: nothing that could fail to match."


def _driver(e: Evidence) -> str:
    if e.style.cuda or "rocm" in (e.style.torch or ""):
        tool = "nvidia-smi -q -d ECC,PAGE_RETIREMENT" if e.style.cuda else "rocm-smi --showrasinfo"
        return f"A trace cannot tell: {tool}"
    if e.style.torch is None:
        return "A trace cannot tell: nvidia-smi"
    return "No NVIDIA GPU was used."


def _data(e: Evidence) -> str:
    data = e.data
    if data is None or not data.batches:
        return "The trace saw no batch: for batch in loader: assert torch.isfinite(x).all()"
    if data.bad_batches:
        return f"Yes: {data.bad_batches} of {data.batches} recorded tensors hold NaN or Inf."
    if data.negative_labels is not None:
        return f"Its labels are: one is below 0 at step {data.negative_labels[0]}."
    if data.loudest_ratio is not None and data.loudest_ratio >= LOUD:
        return f"Perhaps: a batch at step {data.loudest_step} is {num(data.loudest_ratio)} times louder than others."
    loud = f"; none is louder than {num(data.loudest_ratio)} times the usual" if data.loudest_ratio is not None else ""
    return f"Not in what was read: {data.batches} recorded tensors, all finite{loud}."
