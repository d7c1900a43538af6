"""What kernel.c packs is what trace/schema.py packs; what it appends is in the file that was opened, whole."""

import math
import os

import pytest
import torch

import nandoctor
from nandoctor.recording import stats
from nandoctor.recording.probes import at_once, dynamics, thin, units
from nandoctor.recording.probes.plan import SAMPLE
from nandoctor.trace.schema import KIND, ROW

kernel = pytest.importorskip("nandoctor.recording.kernel", reason="no C compiler was at hand at installation")

NUMBERS = ("low", "high", "norm", "value")


def template(kinds):
    rows = [ROW.pack(0, subject, subject, 0, kind, 0, 0, 0, 0.0, 0.0, 0.0) for subject, kind in enumerate(kinds)]
    return b"".join([*rows, ROW.pack(0, 99, 0, 0, KIND["gradient_norm"], 0, 0, 0, 0.0, 0.0, 0.0)])


def rows_of(kinds, step, flags, gradients):
    parameters = [torch.nn.Parameter(torch.zeros_like(g) if g is not None else torch.zeros(2)) for g in gradients]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    return read(template(kinds), step, flags, parameters)


def read(rows, step, flags, tensors, of=torch.Tensor, gradients=True, room=None, samples=b""):
    place = 0 if room is None else room.data_ptr()
    return kernel.read_rows(rows, step, flags, tensors, of, torch.float32, gradients, place, samples)


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
    with pytest.raises(ValueError, match="a row for each tensor"):
        read(template([2, 2]), 1, 0, [])


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
    assert read(template([2, 2]), 1, 0, [readable, parameter]) is None


def test_samples_are_every_so_manieth_element_of_those_that_are_wanted():
    tensors = [torch.arange(10.0), torch.arange(3.0), torch.arange(4.0)]
    plan = SAMPLE.pack(10, 4, 3) + SAMPLE.pack(3, 0, 0) + SAMPLE.pack(4, 4, 1)
    room = torch.full((9,), -1.0)
    rows, _ = read(b"", 0, 0, tensors, gradients=False, room=room, samples=plan)
    assert rows == b"" and room.tolist() == [0, 3, 6, 9, 0, 1, 2, 3, -1]


@pytest.mark.parametrize("plan, gradients", [
    ([(5, 5, 1)], False), ([(4, 4, 1)], True),
], ids=["another size", "its gradient is gone"])
def test_a_tensor_that_is_not_as_the_samples_have_it_is_not_read(plan, gradients):
    room = torch.zeros(8)
    samples = b"".join(SAMPLE.pack(*one) for one in plan)
    assert read(b"", 0, 0, [torch.ones(4)], gradients=gradients, room=room, samples=samples) is None


def test_a_weight_without_a_gradient_has_a_row_and_no_sample():
    room, weight = torch.full((4,), -1.0), torch.nn.Parameter(torch.ones(4))
    plan = SAMPLE.pack(4, 0, 1)
    rows, _ = read(template([2]), 1, 0, [weight], torch.nn.Parameter, gradients=False, room=room, samples=plan)
    assert len(list(ROW.iter_unpack(rows))) == 2 and room.tolist() == [-1.0] * 4
    weight.grad = torch.ones(4)  # it has one now: another plan is needed
    assert read(template([2]), 1, 0, [weight], room=room, samples=plan) is None


def changes(before, after, ends):
    plan = SAMPLE.pack(len(before), len(before), 1)
    row = ROW.pack(0, 5, 6, 0, KIND["update"], 0, 1, 0, 0.0, 0.0, 2.0)
    moved = torch.empty_like(before)
    places = before.data_ptr(), after.data_ptr(), moved.data_ptr()
    return kernel.change_rows(row, 7, 2, ends, *places, plan), moved


@pytest.mark.parametrize("size", [1, 17, 4096, 5001])
def test_changes_are_those_of_torch(size):
    generator = torch.Generator().manual_seed(size)
    before = torch.randn(size, generator=generator)
    after = before + 0.1 * torch.randn(size, generator=generator)
    rows, moved = changes(before, after, True)
    (row,) = ROW.iter_unpack(rows)
    by = after - before
    assert torch.equal(moved, by)
    assert row[:8] == (7, 5, 6, 0, KIND["update"], 0, 3, 0)
    assert row[8:] == pytest.approx((float(by.min()), float(by.max()), 2 * float(by.norm())), rel=1e-5)
    (row,) = ROW.iter_unpack(changes(before, after, False)[0])
    assert row[8:] == pytest.approx((0.0, 0.0, 2 * float(by.norm())), rel=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_change_that_is_not_finite_gives_no_rows(bad):
    before, after = torch.ones(20), torch.ones(20)
    after[11] = bad
    assert changes(before, after, False)[0] is None and changes(before, after, True)[0] is None


def test_products_are_those_of_torch():
    generator = torch.Generator().manual_seed(0)
    now, before, moved = (torch.randn(12, generator=generator) for _ in range(3))
    plan = SAMPLE.pack(10, 5, 2) + SAMPLE.pack(99, 0, 0) + SAMPLE.pack(7, 7, 1)
    weight = torch.tensor([2.0] * 5 + [1.0] * 7)
    pairs = [(now, now), (now, before), (moved, before), (moved, now - before)]
    wanted = [float((weight * a * b).sum()) for a, b in pairs]
    places = now.data_ptr(), before.data_ptr()
    assert kernel.products(*places, moved.data_ptr(), plan) == pytest.approx(wanted, rel=1e-4, abs=1e-4)
    assert kernel.products(*places, 0, plan)[2:] == (0.0, 0.0)


def test_every_row_is_what_it_is_without_the_kernel(tmp_path, monkeypatch):
    """A model with a weight that gets no gradient, one that is above the sample, and gradients that come and go."""
    fast = recorded(tmp_path / "fast.parquet")
    for place in (at_once, dynamics, stats, thin, units):
        monkeypatch.setattr(place, "kernel", None)
    slow = recorded(tmp_path / "slow.parquet")
    assert len(fast) == len(slow) > 1000
    for one, other in zip(fast, slow, strict=True):
        assert one[:-3] == other[:-3]
        assert one[-3:] == pytest.approx(other[-3:], rel=1e-3, abs=1e-6, nan_ok=True), one


def recorded(output):
    torch.manual_seed(0)
    layers = [torch.nn.Linear(4, 70), torch.nn.ReLU(), torch.nn.Linear(70, 70), torch.nn.Linear(70, 1)]
    model = torch.nn.Sequential(*layers)
    apart, never = torch.nn.Parameter(torch.ones(3)), torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.AdamW([
        {"params": model.parameters(), "lr": 1e-3}, {"params": [apart, never], "lr": 1e-2, "weight_decay": 0.1},
    ])  # fmt: skip
    with nandoctor.record(output):
        for step in range(26):
            x = torch.randn(16, 4)
            loss = (model(x).squeeze() - x.sum(1)).square().mean() + (apart.square().sum() if step % 3 else 0.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    rows = nandoctor.read_trace(output)
    rows = rows[rows.kind != "elapsed"]
    return sorted(
        (row.step, row.kind, str(row.layer), str(row.shape), *(float(getattr(row, name)) for name in NUMBERS))
        for row in rows.fillna({name: 0.0 for name in NUMBERS}).itertuples()
    )


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
