"""nandoctor diagnose A B, on real recordings of one program with and without a fault, and on made-up ones."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import pytest

from nandoctor.comparison import Comparison, compare
from nandoctor.errors import UserError
from nandoctor.report import comparison as report
from nandoctor.trace.open import open_trace
from nandoctor.trace.schema import ROW
from nandoctor.trace.trace import Trace
from tests.builders import Run, run

PROGRAM = Path(__file__).with_name("program.py")
SCHEMA = json.loads((Path(__file__).parents[2] / "nandoctor" / "contract" / "diagnosis.schema.json").read_text())
FAULTS = ("", "again", "activation", "weight", "unseeded", "order", "rounding")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory) -> dict[str, Path]:
    """One recording for each fault, of one command; two at a time."""
    folder = tmp_path_factory.mktemp("recorded")

    def start(fault: str) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [sys.executable, "-m", "nandoctor", "record", "--quiet", "-o", folder / f"{fault or 'plain'}.parquet",
             "--", sys.executable, PROGRAM],
            env={**os.environ, "OMP_NUM_THREADS": "1", "FAULT": fault}, cwd=PROGRAM.parents[2],
        )  # fmt: skip

    for first, second in zip(FAULTS[::2], (*FAULTS[1::2], None), strict=True):
        both = [start(fault) for fault in (first, second) if fault is not None]
        assert [one.wait() for one in both] == [0] * len(both)
    return {fault: folder / f"{fault or 'plain'}.parquet" for fault in FAULTS}


def compared(recorded: dict[str, Path], a: str, b: str) -> Comparison:
    return compare(open_trace(recorded[a]), open_trace(recorded[b]))


def typed(*arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "nandoctor", "diagnose", *map(str, arguments)], capture_output=True, text=True
    )


# --- real recordings ----------------------------------------------------------------------------------------
def test_two_runs_of_a_seeded_program_are_equal_to_the_last_bit(recorded):
    found = compared(recorded, "", "again")
    assert (found.kind, found.healthy, found.divergence.first) == ("identical", True, None)
    assert found.divergence.rows > 1000 and found.losses.agree and found.outcome_agrees
    assert found.differs == {} and "device cpu" in found.same and "threads 1" in found.same


@pytest.mark.parametrize("fault", ["activation", "weight"])
@pytest.mark.parametrize("faulty_first", [False, True])
def test_a_flipped_bit_is_a_proved_hardware_fault(recorded, fault, faulty_first):
    found = compared(recorded, fault, "") if faulty_first else compared(recorded, "", fault)
    first = found.divergence.first
    layer = {"activation": "second", "weight": "head"}[fault]
    assert first is not None and (first.step, first.phase, first.layer) == (20, "forward", layer)
    assert (found.kind, found.diagnosis.verdict) == ("hardware-fault", "hardware-fault")
    assert found.diagnosis.findings[0].confidence >= 0.9 and not found.healthy
    assert found.divergence.equal_before["weight"] > 100 and found.divergence.equal_random == 21


def test_the_weight_that_changed_is_named_and_the_bit_told(recorded):
    facts = [fact.fact for fact in compared(recorded, "", "weight").diagnosis.findings[0].verdict.evidence]
    assert any("head.weight" in fact and "changed in B" in fact for fact in facts)
    assert any("one flipped bit" in fact and "2^128" in fact for fact in facts)


def test_one_recording_of_a_flipped_weight_makes_it_a_candidate_and_no_more(recorded):
    done = typed(recorded["weight"], "--json")
    found = {one["cause"]: one["confidence"] for one in json.loads(done.stdout)["findings"]}
    assert 0.01 < found["hardware-fault"] < 0.5


def test_a_program_without_a_seed_is_no_hardware_fault(recorded):
    found = compared(recorded, "", "unseeded")
    assert found.kind == "unseeded-weights" and found.diagnosis.verdict == "healthy" and not found.healthy


def test_an_unseeded_shuffle_is_told_from_other_data(recorded):
    found = compared(recorded, "", "order")
    assert found.kind == "data-order" and found.divergence.same_data is True
    assert found.divergence.first is not None and found.divergence.first.phase == "input"


def test_differences_of_rounding_size_that_grow_are_kernels_and_no_hardware_fault(recorded):
    found = compared(recorded, "", "rounding")
    assert found.divergence.first is not None and found.divergence.first.rounding
    assert found.kind in ("nondeterministic-kernels", "rounding") and found.diagnosis.verdict == "healthy"


def test_as_typed_exit_codes_text_and_json(recorded):
    fine, sick = typed(recorded[""], recorded["again"]), typed(recorded[""], recorded["weight"])
    assert (fine.returncode, sick.returncode, fine.stderr, sick.stderr) == (0, 1, "", "")
    assert fine.stdout.startswith("reproducible: the recordings are equal to the last bit")
    assert "step 20, phase forward, activation of head (Linear)" in sick.stdout
    assert "hardware-fault (confidence 95%)" in sick.stdout
    assert max(map(len, sick.stdout.splitlines())) <= 100 and len(sick.stdout.splitlines()) <= 40
    for a, b, kind in (("", "again", "identical"), ("", "weight", "hardware-fault"), ("order", "", "data-order")):
        found = json.loads(typed(recorded[a], recorded[b], "--json").stdout)
        jsonschema.validate(found, SCHEMA)
        assert found["comparison"]["kind"] == kind


def test_a_copy_of_a_recording_is_refused(recorded, tmp_path):
    shutil.copy(recorded[""], tmp_path / "copy.parquet")
    for other in (recorded[""], tmp_path / "copy.parquet"):
        done = typed(recorded[""], other)
        assert done.returncode == 2 and "THE SAME RECORDING TWICE" in done.stderr and done.stdout == ""


def test_a_muted_cause_is_not_judged_in_a_comparison_either(recorded):
    found = json.loads(typed(recorded[""], recorded["weight"], "--mute", "hardware-fault", "--json").stdout)
    assert found["verdict"] == "healthy" and all(one["cause"] != "hardware-fault" for one in found["findings"])


# --- made up ------------------------------------------------------------------------------------------------
LOSS = [2.0 - step / 20 for step in range(30)]


def made(seed: int = 0, **training: object) -> Run:
    given = dict(
        loss=LOSS, batch=[1 + step % 7 / 10 for step in range(30)], activations={"a": 1.0, "b": 2.0},
        weights={"a.weight": 1.0}, updates={"a.weight": 0.01}, gradients={"a.weight": 0.5}, gradient_norm=1.0,
    )  # fmt: skip
    found = run(**{**given, **training})  # type: ignore[arg-type]
    found.notes[0]["pid"] = 100 + seed
    return found


def with_header(trace: Trace, **header: object) -> Trace:
    return dataclasses.replace(trace, notes=({**trace.notes[0], **header}, *trace.notes[1:]))


def spiked(at: int, factor: float, values: object = 2.0) -> list[float]:
    return [2.0 * (factor if step == at else 1.0) for step in range(30)]


def test_a_late_jump_of_one_layer_is_proved_and_an_early_one_is_a_missing_seed():
    late = compare(made().trace(), made(1, activations={"a": 1.0, "b": spiked(20, 4.0)}).trace())
    early = compare(made().trace(), made(1, activations={"a": 1.0, "b": spiked(1, 4.0)}).trace())
    assert (late.kind, early.kind) == ("hardware-fault", "unseeded")
    assert late.divergence.first is not None and (late.divergence.first.a, late.divergence.first.b) == (-2.0, -8.0)


def test_fewer_equal_steps_make_it_less_sure():
    found = compare(made().trace(), made(1, activations={"a": 1.0, "b": spiked(5, 4.0)}).trace())
    assert found.kind == "hardware-fault" and found.diagnosis.findings[0].confidence < 0.9


def test_a_random_layer_that_parts_late_is_less_sure():
    def dropout(values: object, seed: int) -> Run:
        found = made(seed, activations={"a": values})
        for note in found.notes:
            if note["note"] == "subject" and note["name"] == "a":
                note["module"] = "Dropout"
        return found

    found = compare(dropout(2.0, 0).trace(), dropout(spiked(20, 4.0), 1).trace())
    assert found.kind == "hardware-fault" and found.diagnosis.findings[0].confidence < 0.9


@pytest.mark.parametrize(
    ("header", "kind"),
    [({"torch": "2.4.0"}, "other-versions"), ({"command": ["python", "train.py", "--lr", "1"]}, "other-command")],
)
def test_nothing_is_proved_between_other_versions_or_commands(header, kind):
    other = with_header(made(1, activations={"a": 1.0, "b": spiked(20, 4.0)}).trace(), **header)
    found = compare(made().trace(), other)
    assert found.kind == kind and found.diagnosis.verdict == "healthy" and next(iter(header)) in found.differs


def test_the_same_program_in_another_folder_is_the_same_command():
    other = with_header(made(1).trace(), command=["/usr/bin/python", "/home/b/train.py"])
    assert compare(made().trace(), other).differs == {}


def test_rounding_that_stays_is_reproducible_within_it():
    found = compare(made().trace(), made(1, activations={"a": 1.0, "b": spiked(20, 1 + 1e-7)}).trace())
    assert found.kind == "rounding" and found.reproducible and found.healthy


def test_growing_rounding_is_no_hardware_fault_and_its_growth_is_told():
    noise = [2.0 * (1 + 1e-7 * 3.0 ** (step - 4)) if step >= 4 else 2.0 for step in range(14)]
    found = compare(made(steps=14).trace(), made(1, steps=14, activations={"a": 1.0, "b": noise}).trace())
    assert found.kind == "nondeterministic-kernels" and found.diagnosis.healthy
    assert found.divergence.growth is not None and 2.5 < found.divergence.growth < 3.5


@pytest.mark.parametrize(("device", "verdict"), [("cpu", "hardware-fault"), ("NVIDIA H100", "healthy")])
def test_rounding_that_comes_late_and_grows_is_a_fault_where_sums_have_one_order(device, verdict):
    noise = [2.0 * (1 + 1e-7 * 3.0 ** (step - 20)) if step >= 20 else 2.0 for step in range(30)]
    pair = (made().trace(), made(1, activations={"a": 1.0, "b": noise}).trace())
    found = compare(*(with_header(trace, device=device, threads=2) for trace in pair))
    assert found.diagnosis.verdict == verdict


def test_another_learning_rate_is_another_path_of_the_program():
    found = compare(made().trace(), made(1, lr=[0.1] * 20 + [0.05] * 10).trace())
    assert found.kind == "other-path" and found.divergence.first is not None
    assert (found.divergence.first.kind, found.divergence.first.step) == ("learning_rate", 20)


def test_other_data_from_the_middle_on_is_other_data():
    batch = [1 + step % 7 / 10 if step < 20 else 5.0 for step in range(30)]
    found = compare(made().trace(), made(1, batch=batch).trace())
    assert found.kind == "other-data" and found.divergence.first is not None and found.divergence.first.step == 20


def test_a_run_that_was_cut_short_is_not_called_another_path():
    found = compare(made().trace(), made(1, steps=20).trace())
    assert found.kind == "identical" and found.divergence.steps == 20


def test_a_row_that_only_one_has_is_another_path():
    other = made(1)
    other.step = 10
    other.row("checkpoint", "save", "call")
    places = [place for place, row in enumerate(other.packed) if ROW.unpack(row)[0] == 10]
    other.packed.insert(places[0], other.packed.pop())
    found = compare(made().trace(), other.trace())
    first = found.divergence.first
    assert found.kind == "other-path" and first is not None and (first.kind, first.only_in) == ("checkpoint", "B")


def test_a_fault_that_the_trace_of_a_sick_run_shows_too_keeps_the_other_candidates():
    loss = [*LOSS[:20], *(float("nan") for _ in range(10))]
    sick = made(1, loss=loss, activations={"a": 1.0, "b": spiked(20, float("inf"))})
    found = compare(made().trace(), sick.trace())
    assert found.diagnosis.verdict == "hardware-fault" and found.diagnosis.first_nonfinite is not None
    assert not found.outcome_agrees and not found.losses.agree and found.losses.equal_until == 19
    assert sum(one.confidence for one in found.diagnosis.findings[:2]) <= 1.0


@pytest.mark.parametrize("first", [True, False])
def test_one_step_is_too_short(first):
    pair = [made(steps=1).trace(), made(1).trace()]
    with pytest.raises(UserError) as caught:
        compare(*(pair if first else pair[::-1]))
    assert "too short" in str(caught.value).lower() and caught.value.exit_code == 2


def test_two_programs_are_refused():
    with pytest.raises(UserError) as caught:
        compare(made().trace(), made(1, weights={"encoder.weight": 1.0}).trace())
    assert "encoder.weight" in str(caught.value) or "a.weight" in str(caught.value)
    with pytest.raises(UserError):
        compare(made().trace(), made(1, shape=(4, 4)).trace())


def test_names_out_of_a_trace_do_not_steer_the_terminal():
    evil = "\x1b[31mred\x1b]0;title\x07"
    a, b = made(activations={evil: 1.0}), made(1, activations={evil: spiked(20, 9.0)})
    text = report.render(compare(a.trace(), with_header(b.trace(), platform=evil)))
    assert "\x1b" not in text and "\x07" not in text


def test_nan_equals_nan_and_order_of_kinds_does_not_matter():
    sick = [1.0, 2.0, float("nan"), float("nan")]
    found = compare(made(steps=4, loss=sick).trace(), made(1, steps=4, loss=sick).trace())
    assert found.kind == "identical" and not found.healthy and np.isnan(found.losses.end_a or 0.0)
