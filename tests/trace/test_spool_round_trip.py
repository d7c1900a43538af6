"""Whatever a recording writes is read back as it was, from the spool and from the finished file."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nandoctor.trace.open import open_trace
from nandoctor.trace.recover import finish
from nandoctor.trace.schema import (
    DTYPES,
    KIND,
    KIND_NAMES,
    KINDS,
    MODES,
    NORM_ONLY,
    ROW,
    TENSOR_KINDS,
)
from tests.builders import Run

WHOLE_NUMBERS = ("nan_count", "inf_count", "first_bad", "ignored", "found_inf", "of", "zeros", "looks")
SUBJECTS = 5
SHAPES = ((), (3,), (2, 3), (0, 7))

numbers = st.floats(width=64) | st.floats(width=16) | st.sampled_from([0.0, -0.0, 65504.0, float("nan"), 1e300])
counts = st.integers(0, 2**40).map(float) | st.just(float("nan"))


@st.composite
def rows(draw):
    """One row as ROW.pack takes it, of any kind, with numbers that its kind can have."""
    kind = draw(st.sampled_from(KIND_NAMES))
    flags = draw(st.integers(0, 255))
    if kind not in TENSOR_KINDS:
        flags &= ~NORM_ONLY
    abc = [draw(counts if name in WHOLE_NUMBERS else numbers) for name in KINDS[kind]]
    shape = draw(st.integers(0, len(SHAPES) - 1) | st.just(0xFFFF))
    return (
        draw(st.integers(0, 2**31 - 1)),
        draw(st.integers(0, SUBJECTS - 1)),
        shape,
        draw(st.integers(0, 0xFFFF)),
        KIND[kind],
        draw(st.integers(0, len(DTYPES) - 1)),
        flags,
        draw(st.integers(0, len(MODES) - 1)),
        *abc,
    )


def expected(written, kind):
    """The rows of a kind in plain Python, batch, micro and epoch counted one by one."""
    training = training_loaders(written)
    batch = micro = 0
    epoch = -1
    found = []
    for order, row in enumerate(written):
        step, subject, shape, call, number, dtype, flags, mode, *abc = row
        if number == KIND[kind]:
            if kind in TENSOR_KINDS and flags & NORM_ONLY:
                abc[:2] = [float("nan")] * 2
            abc = [value if name else float("nan") for name, value in zip(KINDS[kind], abc, strict=True)]
            found.append((order, step, batch, micro, epoch, subject, call, dtype, shape, flags, mode, *abc))
        if number == KIND["backward"]:
            batch, micro = batch + 1, micro + 1
        elif number == KIND["step"]:
            micro = 0
        elif number == KIND["epoch"] and subject in training:
            epoch += 1
    return found


def training_loaders(written):
    strict, loose = set(), set()
    for place, row in enumerate(written):
        if row[4] != KIND["epoch"]:
            continue
        evaluated = False
        for later in written[place + 1 :]:
            evaluated = evaluated or (later[4] == KIND["activation"] and later[7] == MODES.index("eval"))
            if later[4] == KIND["epoch"]:
                break
            if later[4] == KIND["backward"]:
                loose.add(row[1])
                if not evaluated:
                    strict.add(row[1])
                break
    return strict or loose


def run_of(written):
    run = Run()
    for number in range(SUBJECTS):
        run.subject(f"layer{number}", module="Linear" if number % 2 else None, tensor=str(number) if number else None)
    for shape in SHAPES:
        run.shape(*shape)
    run.packed = [ROW.pack(*row) for row in written]
    return run


def assert_same(trace, written):
    for kind in KIND_NAMES:
        found, wanted = trace.rows(kind), expected(written, kind)
        for place, field in enumerate(found.dtype.names):
            np.testing.assert_array_equal(found[field], [row[place] for row in wanted], f"{kind}.{field}")


@settings(max_examples=60, deadline=None)
@given(st.lists(rows(), max_size=60))
def test_every_row_survives_in_memory_and_in_the_finished_file(written):
    run = run_of(written)
    assert_same(run.trace(), written)
    trained = any(row[4] in (KIND["step"], KIND["backward"]) for row in written)
    with tempfile.TemporaryDirectory() as folder:
        finished = finish(run.spool(Path(folder) / "run.parquet"))
        assert (finished is not None) == trained
        if finished:
            trace = open_trace(finished)
            assert_same(trace, written)
            assert list(trace.notes) == run.notes


def test_rows_in_several_blocks_are_counted_on(tmp_path, monkeypatch):
    random = np.random.default_rng(0)
    kinds = random.choice([KIND[k] for k in ("activation", "backward", "step", "epoch", "loss")], 1500)
    written = [
        (
            n // 9,
            int(random.integers(SUBJECTS)),
            1,
            0,
            int(kind),
            1,
            0,
            int(random.integers(2)),
            0.0,
            0.0,
            1.5,
        )
        for n, kind in enumerate(kinds)
    ]
    monkeypatch.setattr("nandoctor.trace.rows.READ_ROWS", 7)
    monkeypatch.setattr("nandoctor.trace.parquet.BLOCK_ROWS", 64)
    monkeypatch.setattr("nandoctor.trace.parquet.OWN_GROUP", 16)
    run = run_of(written)
    assert_same(run.trace(), written)
    assert_same(open_trace(run.file(tmp_path / "run.parquet")), written)


def test_a_validation_in_the_middle_of_an_epoch_begins_no_epoch():
    run = Run()
    run.row("epoch", "train", "loader")
    for step in range(6):
        if step == 3:
            run.row("epoch", "valid", "loader")
            run.tensor("activation", "fc", 1.0, mode="eval")
        run.tensor("activation", "fc", 1.0)
        run.row("backward", value=1.0)
        run.row("step", value=1.0)
    assert set(run.trace().rows("step")["epoch"].tolist()) == {0}


def test_a_backbone_frozen_in_eval_mode_does_not_hide_the_epochs():
    run = Run()
    for _ in range(3):
        run.row("epoch", "train", "loader")
        run.tensor("activation", "backbone", 1.0, mode="eval")
        run.tensor("activation", "head", 1.0)
        run.row("backward", value=1.0)
        run.row("step", value=1.0)
    assert run.trace().rows("step")["epoch"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("name", ["\ud800", "a\x00b", "\x1b[31mred", "層.0", "x" * 5000])
def test_any_name_survives_or_is_replaced(tmp_path, name):
    run = Run()
    run.tensor("activation", name, 1.0)
    run.row("backward", value=1.0)
    trace = open_trace(run.file(tmp_path / "run.parquet"))
    assert trace.subjects[0].name == name
    assert len(trace.rows("activation")) == 1


def test_subject_ids_of_rows_without_a_subject_are_kept_apart_from_real_ones(tmp_path):
    run = Run()
    run.row("backward", value=1.0)
    for subject in (77, 2**31, 2**32 - 1):
        run.packed.append(ROW.pack(0, subject, 9, 0, KIND["activation"], 200, 0, 9, 1.0, 1.0, 1.0))
    run.packed.append(ROW.pack(0, 0, 0, 0, 250, 0, 0, 0, 1.0, 1.0, 1.0))  # a kind that does not exist
    trace = open_trace(run.file(tmp_path / "run.parquet"))
    found = trace.rows("activation")
    assert len(found) == 3 and 0 not in found["subject"]
    assert found["dtype"].tolist() == [DTYPES.index("other")] * 3
