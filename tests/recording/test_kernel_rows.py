"""What kernel.c packs is what trace/schema.py packs; what it appends is in the file that was opened, whole."""

import math
import os

import pytest
import torch

from nandoctor.trace.schema import KIND, ROW

kernel = pytest.importorskip("nandoctor.recording.kernel", reason="no C compiler was at hand at installation")


def template(kinds):
    rows = [ROW.pack(0, subject, subject, 0, kind, 0, 0, 0, 0.0, 0.0, 0.0) for subject, kind in enumerate(kinds)]
    return b"".join([*rows, ROW.pack(0, 99, 0, 0, KIND["gradient_norm"], 0, 0, 0, 0.0, 0.0, 0.0)])


def rows_of(kinds, step, flags, gradients):
    parameters = [torch.nn.Parameter(torch.zeros_like(g) if g is not None else torch.zeros(2)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return kernel.norm_rows(template(kinds), step, flags, parameters, torch.Tensor, torch.float32)


def test_rows_hold_step_flags_and_norms():
    tensors = [torch.randn(300, 7), torch.randn(5)]
    rows, total = rows_of([2, 2], 70_000, 16, tensors)
    read = list(ROW.iter_unpack(rows))
    norms = [float(t.norm()) for t in tensors]
    assert [row[:8] for row in read] == [
        (70_000, 0, 0, 0, 2, 0, 16, 0),
        (70_000, 1, 1, 0, 2, 0, 16, 0),
        (70_000, 99, 0, 0, KIND["gradient_norm"], 0, 0, 0),
    ]
    assert [row[-1] for row in read] == pytest.approx([*norms, math.hypot(*norms)], rel=1e-5)
    assert total == read[-1][-1]


def test_a_missing_gradient_has_no_row_and_an_unwanted_one_counts_in_the_total_alone():
    tensors = [torch.full((4,), 3.0), None, torch.full((4,), 4.0)]
    rows, total = rows_of([2, 2, 255], 1, 0, tensors)
    assert [row[1] for row in ROW.iter_unpack(rows)] == [0, 99]
    assert total == pytest.approx(10.0)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_nothing_is_written_of_a_total_that_is_not_finite(bad):
    tensor = torch.tensor([1.0, bad])
    rows, total = rows_of([2], 1, 0, [tensor])
    assert rows == b"" and not math.isfinite(total)


def test_a_template_of_another_length_is_refused():
    with pytest.raises(ValueError, match="a row for each parameter"):
        kernel.norm_rows(template([2, 2]), 1, 0, [], torch.Tensor, torch.float32)


@pytest.mark.parametrize(
    "gradient",
    [
        torch.ones(2, dtype=torch.float64),
        torch.ones(4, 2).t(),
        torch.eye(2).to_sparse(),
        torch.nn.Parameter(torch.ones(2)),
    ],
    ids=["double", "transposed", "sparse", "of another class"],
)
def test_what_it_cannot_read_is_left_to_torch(gradient):
    parameter = torch.nn.Parameter(torch.zeros(gradient.shape, dtype=gradient.dtype))
    parameter.grad = gradient
    readable = torch.nn.Parameter(torch.zeros(2))
    readable.grad = torch.ones(2)
    assert kernel.norm_rows(template([2, 2]), 1, 0, [readable, parameter], torch.Tensor, torch.float32) is None


def test_a_lookup_tells_and_hands_out_the_method_and_sleeps():
    told = []

    class Owner:
        def method(self):
            return self

    lookup = kernel.Lookup(Owner.method, told.append)
    Owner.method = lookup
    owner = Owner()
    assert owner.method() is owner and told == [owner]
    lookup.asleep = True
    assert owner.method() is owner and told == [owner]
    assert Owner.method is lookup.original and told == [owner]  # looked up on the class: nobody's call


def test_what_a_lookup_raises_is_raised():
    class Owner:
        method = kernel.Lookup(lambda self: self, lambda instance: 1 / 0)

    with pytest.raises(ZeroDivisionError):
        Owner().method()


@pytest.mark.skipif(not hasattr(kernel, "append"), reason="POSIX alone")
def test_only_the_file_that_was_opened_is_written(tmp_path):
    descriptor = os.open(tmp_path / "rows", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    try:
        status = os.fstat(descriptor)
        assert kernel.append(descriptor, status.st_dev, status.st_ino, 4, b"abcd")
        assert not kernel.append(descriptor, status.st_dev, status.st_ino + 1, 4, b"efgh")
        os.write(descriptor, b"x")  # cut by a kill: what follows would not be readable
        assert not kernel.append(descriptor, status.st_dev, status.st_ino, 4, b"efgh")
    finally:
        os.close(descriptor)
    assert (tmp_path / "rows").read_bytes() == b"abcdx"
    assert not kernel.append(descriptor, status.st_dev, status.st_ino, 4, b"efgh")


@pytest.mark.skipif(not hasattr(kernel, "append"), reason="POSIX alone")
def test_a_full_disk_keeps_what_was_whole(tmp_path):
    import resource

    descriptor = os.open(tmp_path / "rows", os.O_RDWR | os.O_CREAT | os.O_APPEND)
    status = os.fstat(descriptor)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        assert kernel.append(descriptor, status.st_dev, status.st_ino, 40, bytes(80))
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
        assert not kernel.append(descriptor, status.st_dev, status.st_ino, 40, bytes(80))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        os.close(descriptor)
    assert os.path.getsize(tmp_path / "rows") == 80
