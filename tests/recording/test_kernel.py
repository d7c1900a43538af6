"""The compiled kernel and torch's own give the same numbers; where the one is missing the other reads."""

import math

import pytest
import torch

from nandoctor.recording import samples, stats

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16]
SIZES = [1, 15, 16, 17, 4095, 4096, 4097, 100_003]  # around a register and a block
needs_kernel = pytest.mark.skipif(stats.kernel is None, reason="nandoctor was installed without a C compiler")


@pytest.fixture
def torch_alone(monkeypatch):
    monkeypatch.setattr(stats, "kernel", None)


def both_ways(monkeypatch, read):
    with monkeypatch.context() as patch:
        patch.setattr(stats, "kernel", None)
        slow = read()
    return read(), slow


def close(a, b):
    return (math.isnan(a) and math.isnan(b)) or a == b or abs(a - b) <= 1e-5 * abs(b)


@needs_kernel
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES)
def test_ends_and_norm_are_those_of_torch(monkeypatch, dtype, size):
    x = (torch.randn(size, generator=torch.Generator().manual_seed(size)) * 3).to(dtype)
    fast, slow = both_ways(monkeypatch, lambda: stats.measure(x))
    assert fast[:2] == slow[:2]
    assert close(fast.norm, slow.norm)
    assert not fast.bad


@needs_kernel
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_one_bad_element_is_never_missed(monkeypatch, dtype, size, value):
    for place in {0, size // 2, size - 1}:
        x = torch.ones(size, dtype=dtype)
        x[place] = value
        fast, slow = both_ways(monkeypatch, lambda x=x: stats.measure(x))
        assert fast.bad and slow.bad
        assert all(close(a, b) for a, b in zip(fast[:2], slow[:2], strict=True))


@needs_kernel
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str)
def test_the_smallest_and_the_largest_values_are_read_as_they_are(dtype):
    tiny, huge = torch.finfo(dtype).smallest_normal, torch.finfo(dtype).max
    subnormal = torch.tensor([tiny], dtype=dtype) / 4
    x = torch.cat([torch.tensor([-huge, huge], dtype=dtype), subnormal])
    assert stats.measure(x)[:2] == (-huge, huge)
    assert stats.measure(subnormal).high == subnormal.item() > 0
    assert not stats.measure(x).bad
    assert math.isfinite(stats.measure(x).norm)  # squares of float32's largest are no Inf


@pytest.mark.parametrize("make", [
    lambda: torch.randn(6, 8).t(),
    lambda: torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last),
    lambda: torch.randn(40)[::3],
    lambda: torch.randn(8, 8)[:, 2:5],
    lambda: torch.randn(1, 9).expand(5, 9),
    lambda: torch.randn(5, dtype=torch.complex64).conj().imag,
    lambda: torch._efficientzerotensor(7),
], ids=["transposed", "channels-last", "strided", "sliced", "expanded", "negated-view", "zero-tensor"])
def test_what_is_not_one_piece_of_memory_is_read_rightly(make):
    x = make()
    found = stats.measure(x)
    assert found[:2] == (x.min().item(), x.max().item())
    assert close(found.norm, x.double().norm().item())


def test_norms_of_mixed_tensors(monkeypatch):
    mixed = [torch.randn(5), torch.randn(7, dtype=torch.float64), torch.randn(4, 3).t(), torch.randn(9).half()]
    fast, slow = both_ways(monkeypatch, lambda: stats.norms(mixed))
    assert all(close(a, b) and close(a, x.double().norm().item()) for a, b, x in zip(fast, slow, mixed, strict=True))


def sampled():
    generator = torch.Generator().manual_seed(3)
    tensors = [torch.randn(n, generator=generator) for n in (5, 4099, 64)]
    before = samples.gather([(k, x, 1 + 2 * k) for k, x in enumerate(tensors)])
    after = samples.gather([(k, x + 0.1 * x * x, 1 + 2 * k) for k, x in enumerate(tensors)])
    return before[0], after[0]


def test_sampled_elements_are_every_so_manieth_one():
    x = torch.arange(10.0)
    (found,) = samples.gather([(1, x, 3), (2, x, 4)])
    assert found.keys == (1, 2)
    assert found.lengths == (4, 3)
    assert found.vector.tolist() == [0, 3, 6, 9, 0, 4, 8]


def test_updates_of_double_precision_are_not_rounded_away():
    x = torch.ones(4, dtype=torch.float64)
    (before,), (after,) = samples.gather([(1, x, 1)]), samples.gather([(1, x + 1e-12, 1)])
    ((low, high, norm),) = samples.differences(before, after, look=True)
    assert low == pytest.approx(1e-12, rel=1e-3) and high == pytest.approx(1e-12, rel=1e-3)
    assert norm == pytest.approx(2e-12, rel=1e-3)


@needs_kernel
def test_differences_and_products_are_those_of_torch(monkeypatch):
    def read():
        before, after = sampled()
        changes = samples.differences(before, after, look=True)
        a, b = before.vector, after.vector
        dots = samples.products([(a, b), (b, b)], before.lengths, [1, 3, 5])
        return [*samples.sizes(before), *dots, *[number for change in changes for number in change]]

    fast, slow = both_ways(monkeypatch, read)
    assert len(fast) == len(slow) == 3 + 2 + 9
    assert all(close(a, b) for a, b in zip(fast, slow, strict=True))


def test_a_difference_with_a_nan_is_not_finite():
    x = torch.ones(4)
    y = x.clone()
    y[2] = math.nan
    (before,), (after,) = samples.gather([(1, x, 1)]), samples.gather([(1, y, 1)])
    assert not math.isfinite(samples.differences(before, after, look=False)[0][2])


def test_without_the_kernel_everything_is_read_by_torch(torch_alone):
    assert stats.address(torch.ones(3)) == 0
    assert stats.measure(torch.tensor([1.0, -2.0]))[:2] == (-2.0, 1.0)
    before, after = sampled()
    assert samples.differences(before, after, look=False)[0][2] > 0
