"""A tensor in three numbers, in one or two passes over it.

aminmax is the exact check: NaN propagates into both ends, an Inf is an extreme. The norm may overflow while every
element is finite, so "bad" is never read from it. isnan, isfinite, var, histc cost 10 to 100 times as much on a CPU.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import _C, Tensor

try:
    from . import kernel as kernel
except ImportError:  # nandoctor was installed without a C compiler, or for another Python than the program's
    kernel = None  # type: ignore[assignment]

NOT_MEASURED = math.nan
detach = torch._C.TensorBase.detach  # torch's own: Tensor.detach and Tensor.item are watched (probes/guards.py)
item = torch._C.TensorBase.item


class Stats(NamedTuple):
    low: float
    high: float
    norm: float

    @property
    def bad(self) -> bool:
        return not (math.isfinite(self.low) and math.isfinite(self.high))


SMALLEST_NORMAL = {torch.float16: 2.0**-14, torch.bfloat16: 2.0**-126}  # below: subnormal, then flushed to zero
_WIDER = {torch.float16: torch.float32, torch.bfloat16: torch.float32}
_HALF_BYTES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


HERE = {"cpu"}  # types of devices whose numbers are read at once; a test takes it out to walk the other way


def word(dtype: torch.dtype) -> str:
    """float32, as rows and reports have it."""
    return str(dtype).removeprefix("torch.")


def away(tensor: Tensor) -> bool:
    """On an accelerator: reading it now would make the program wait."""
    return not (tensor.is_cpu and "cpu" in HERE) and tensor.device.type not in HERE


def measurable(tensor: Tensor) -> bool:
    """A plain dense floating point tensor that holds values: not fake, meta, sparse, nested, quantised or empty."""
    return (
        tensor.dtype in _HALF_BYTES
        and tensor.layout is torch.strided
        and is_dense(tensor)
        and not tensor.is_meta
        and tensor.numel() > 0
        and not tensor.is_nested
    )


def is_dense(tensor: Tensor) -> bool:
    """Not a tensor that dispatches to Python (DTensor, FakeTensor, a wrapper): those hold no values of their own."""
    kind = type(tensor)
    return kind is Tensor or kind is torch.nn.Parameter or not _C._dispatch_keys(tensor).has(_C.DispatchKey.Python)


def local(tensor: Tensor) -> Tensor:
    """This process's own part of a DTensor. Any operation on the whole may wait for all other ranks."""
    if type(tensor) in (Tensor, torch.nn.Parameter):
        return tensor
    shard = getattr(tensor, "_local_tensor", None)
    return shard if isinstance(shard, Tensor) else tensor


def allocated(tensor: Tensor) -> bool:
    """Whether its values are in memory: fully_shard frees a parameter's between forward and backward."""
    return tensor.layout is not torch.strided or tensor.numel() == 0 or tensor.untyped_storage().nbytes() > 0


def is_countable(tensor: Tensor) -> bool:
    """A plain tensor of integers or booleans that can be read without waiting for an accelerator."""
    return (
        not tensor.is_floating_point()
        and not tensor.is_complex()
        and tensor.layout is torch.strided
        and is_dense(tensor)
        and tensor.device.type == "cpu"
        and not tensor.is_quantized
        and tensor.numel() > 0
    )


def is_plain_float(tensor: Tensor) -> bool:
    """A measurable tensor that can be read without waiting for an accelerator."""
    return measurable(tensor) and tensor.is_cpu


def measure_integers(tensor: Tensor) -> Stats:
    """Token ids, classes, masks."""
    low, high = (int(end) for end in torch.aminmax(tensor.to(torch.uint8) if tensor.dtype == torch.bool else tensor))
    return Stats(float(low), float(high), item(torch.linalg.vector_norm(tensor.double())))


def plain(tensor: Tensor | None) -> Tensor | None:
    """The values of a sparse gradient, a complex tensor as pairs of reals; None where there is nothing to measure."""
    if tensor is None:
        return None
    tensor = local(tensor)
    if tensor.layout is torch.sparse_coo:
        tensor = detach(tensor).coalesce()._values()
    if tensor.is_complex() and tensor.layout is torch.strided:
        tensor = torch.view_as_real(detach(tensor).resolve_conj())
    return tensor if measurable(tensor) else None


def dense(x: Tensor) -> Tensor:
    """The same elements in the order they lie in memory: aminmax of a permuted tensor is up to 22 times slower."""
    if x.is_contiguous() or x.dim() < 2:
        return x
    order = sorted(range(x.dim()), key=x.stride, reverse=True)
    return x.permute(order)


# as kernel.c numbers them
KERNEL_DTYPES = {torch.float32: 0, torch.float64: 1, torch.float16: 2, torch.bfloat16: 3}


def address(tensor: Tensor) -> int:
    """Where kernel.c finds the elements of a measurable tensor in one piece; 0 where torch's kernels must read it."""
    if kernel is None or not tensor.is_cpu or not tensor.is_contiguous() or tensor.is_neg():
        return 0
    return tensor.data_ptr()


def ends(tensor: Tensor) -> Tensor:
    """[low, high] on the tensor's device."""
    low, high = torch.aminmax(dense(detach(tensor)))
    return torch.stack([low, high])


def on_device(tensor: Tensor) -> Tensor:
    """[low, high, norm] in float32 on the tensor's device, without a synchronisation."""
    x = dense(detach(tensor))
    low, high = torch.aminmax(x)
    norm = torch.linalg.vector_norm(x, dtype=_WIDER.get(x.dtype))
    return torch.stack([low.to(norm.dtype), high.to(norm.dtype), norm]).float()


def measure(tensor: Tensor) -> Stats:
    """Read a CPU tensor at once: deferring costs more than it saves there."""
    x = tensor if tensor.is_contiguous() else dense(detach(tensor))
    place = address(x)
    if place:
        return Stats(*kernel.read(place, x.numel(), KERNEL_DTYPES[x.dtype]))
    x = detach(x)
    low, high = torch.aminmax(x)
    return Stats(item(low), item(high), item(torch.linalg.vector_norm(x, dtype=_WIDER.get(x.dtype))))


def is_bad(tensor: Tensor | None) -> bool:
    """Exact: does it hold a NaN or an Inf? Synchronises; for alarms only."""
    readable = plain(tensor)
    if readable is None or not allocated(readable):
        return False
    low, high = torch.aminmax(dense(detach(readable)))
    return not (math.isfinite(item(low)) and math.isfinite(item(high)))


def located(tensor: Tensor) -> tuple[float, float, int, str]:
    """(NaNs, Infs, flat index of the first of either, which it is) of a tensor that holds one."""
    flat = detach(tensor).reshape(-1)
    nans, infs = torch.isnan(flat), torch.isinf(flat)
    first = int((nans | infs).to(torch.uint8).argmax())
    value = item(flat[first])
    kind = "nan" if value != value else ("inf" if value > 0 else "-inf")
    return float(nans.sum()), float(infs.sum()), first, kind


def flushed(gradient: Tensor) -> tuple[float, float, float]:
    """Zeros, elements, subnormal ones of a gradient in half precision: a row (E29)."""
    size = detach(gradient).abs()
    zeros = (size == 0).sum()
    small = (size < SMALLEST_NORMAL[gradient.dtype]).sum()
    zero, tiny = torch.stack([zeros, small]).tolist()
    return float(zero), float(size.numel()), float(tiny - zero)


def kernel_norms(tensors: list[Tensor], places: list[int]) -> list[float]:
    """Of tensors that all have an address."""
    wanted: list[int] = []
    for tensor, place in zip(tensors, places, strict=True):
        wanted += (place, tensor.numel(), KERNEL_DTYPES[tensor.dtype])
    return kernel.norms(*wanted)


def norms(tensors: list[Tensor]) -> list[float]:
    """L2 norms in float32 or wider, one kernel for each dtype and device, one transfer for each device."""
    places = [address(tensor) for tensor in tensors]
    if places and all(places):  # of nothing, too, where there is no kernel
        return kernel_norms(tensors, places)
    result = [0.0] * len(tensors)
    groups: dict[tuple[Any, Any], list[int]] = {}
    for number, tensor in enumerate(tensors):
        groups.setdefault((tensor.dtype, tensor.device), []).append(number)
    for (dtype, _), members_of in groups.items():
        members = [detach(tensors[number]) for number in members_of]
        if dtype in (torch.float16, torch.bfloat16):
            found = [torch.linalg.vector_norm(x, dtype=torch.float32) for x in members]
        else:
            found = list(torch._foreach_norm(members))
        for number, norm in zip(members_of, torch.stack(found).tolist(), strict=True):
            result[number] = norm
    return result
