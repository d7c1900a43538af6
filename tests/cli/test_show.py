"""nandoctor show: a summary, or rows."""

import os
import subprocess
import sys

import pytest

from nandoctor.cli import run as nandoctor
from tests.builders import Run, run


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shown(capsys, *arguments):
    code = nandoctor(["show", *map(str, arguments)])
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def example(**more):
    made = run(
        loss="3 2 inf nan",
        activations={"blocks.0.fc": "1 2 inf", "blocks.1.fc": 1, "head": 1},
        epoch_length=2,
        gradients={"head.weight": 1},
        **more,
    )
    made.note(
        "model",
        name="net",
        kind="Net",
        tree=[["", "Net", True], ["head", "Linear", True]],
        parameters=[["head.weight", [10, 32], "float32"], ["head.bias", [10], "float32"]],
    )
    made.note("probe_failed", probe="loss", step=2, error="KeyError: 'x'")
    made.note("unseen", text="the gradients of compiled modules")
    made.note("exception", type="ValueError", message="loss is nan", frames=[], last=[])
    made.note(
        "incident",
        alarm="loss",
        step=2,
        phase="forward",
        layer="head",
        op="log",
        kind="inf",
        place={"file": "train.py", "line": 12},
    )
    return made


def test_the_summary_of_the_newest_trace_tells_what_it_holds(here, capsys):
    example(exit_code=1).file(here / "run.parquet")
    said = shown(capsys)
    for words in (
        "run.parquet",
        "nandoctor 0.1.0",
        "python train.py",
        "2023-11-14",
        "Python 3.11.7",
        "torch 2.13.0",
        "exit code 1",
        "ValueError: loss is nan",
        "4 steps",
        "2 epochs begun",
        "Net net: 2 modules, 330 parameters",
        "Linear  330",
        "SGD: lr 0.1",
        "the loss probe, at step 2",
        "gradients of compiled modules",
        "forward head log inf at train.py:12",
        "3 measured",
    ):
        assert words in said, words
    assert any(line.split() == ["activation", "12"] for line in said.splitlines())


@pytest.mark.parametrize(
    "code, words", [(0, "exit code 0"), (-9, "signal 9, SIGKILL"), (-999, "signal 999"), (None, "nobody saw")]
)
def test_the_summary_says_how_the_run_ended(here, capsys, code, words):
    example(exit_code=code).file(here / "run.parquet")
    assert words in shown(capsys, "run.parquet")


def test_a_filter_gives_rows_in_order_of_time(here, capsys):
    example().file(here / "run.parquet")
    lines = shown(capsys, "--step", "1:2", "--layer", "blocks.*", "--kind", "activation").splitlines()
    assert lines[0].split() == ["step", "batch", "kind", "layer", "mode", "dtype", "shape", "numbers"]
    assert [line.split()[:4] for line in lines[1:]] == [
        ["1", "1", "activation", "blocks.0.fc"],
        ["1", "1", "activation", "blocks.1.fc"],
        ["2", "2", "activation", "blocks.0.fc"],
        ["2", "2", "activation", "blocks.1.fc"],
    ]
    assert "high inf" in lines[3] and "[nonfinite]" in lines[3] and "[nonfinite]" not in lines[4]


@pytest.mark.parametrize("step, steps", [("2", {2}), ("2:", {2, 3}), (":1", {0, 1}), ("0:99", {0, 1, 2, 3})])
def test_steps_are_given_in_four_ways(here, capsys, step, steps):
    example().file(here / "run.parquet")
    lines = shown(capsys, "--step", step, "--kind", "loss").splitlines()[1:]
    assert {int(line.split()[0]) for line in lines} == steps


def test_a_limit_says_how_much_is_left_out(here, capsys):
    example().file(here / "run.parquet")
    lines = shown(capsys, "--step", ":", "--limit", "3").splitlines()
    assert len(lines) == 5 and "more rows" in lines[-1]
    assert [line.split()[2] for line in lines[1:4]] == ["epoch", "activation", "activation"]


def test_no_row_that_matches_is_said(here, capsys):
    example().file(here / "run.parquet")
    assert "no rows match" in shown(capsys, "--layer", "none.*")


@pytest.mark.parametrize("filter", [["--kind", "losses"], ["--step", "a:b"], ["--step", "1:2:3"]])
def test_a_mistyped_filter_is_an_error_in_words(here, capsys, filter):
    assert nandoctor(["show", *filter]) == 2
    assert filter[1] in capsys.readouterr().err


def test_no_trace_here_is_an_error_in_words(here, capsys):
    assert nandoctor(["show"]) == 2
    assert "found none" in capsys.readouterr().err


def test_ten_thousand_layers_fit_on_a_screen(here, capsys):
    made = Run()
    names = [f"blocks.{number}.fc" for number in range(10_000)]
    for name in names:
        made.tensor("activation", name, 1.0)
    made.row("backward", value=1.0)
    made.note(
        "model",
        name="m",
        kind="Net",
        tree=[["", "Net", True], *([name, "Linear", True] for name in names)],
        parameters=[[f"{name}.weight", [2, 2], "float32"] for name in names],
    )
    for number in range(500):
        made.note("unseen", text=f"thing {number}")
    made.file(here / "run.parquet")
    lines = shown(capsys).splitlines()
    assert len(lines) < 60
    assert any("9,988 more" in line for line in lines) and any("blocks.9999.fc" in line for line in lines)
    assert max(map(len, lines)) < 220


def test_nothing_that_steers_a_terminal_comes_through(here, capsys):
    evil = "\x1b[2J\x1b]0;title\x07\x9b31m\u202eevil\r\n\x00name\u200b"
    made = Run(command=[evil], python=evil, torch=evil, platform=evil, nandoctor=evil, started=evil, threads=evil)
    made.tensor("activation", evil, 1.0, module=evil, tensor=evil)
    made.row("backward", value=1.0)
    made.row("step", value=1.0)
    made.note("exception", type=evil, message=evil, frames=evil, last=evil)
    made.note("model", name=evil, kind=evil, tree=[[evil, evil, evil]], parameters=[[evil, [1], evil]])
    made.note("optimizer", id=evil, name=evil, **{"class": evil}, groups=[{evil: evil}])
    made.note("incident", alarm=evil, step=evil, phase=evil, layer=evil, op=evil, place={"file": evil, "line": evil})
    made.note("probe_failed", probe=evil, step=evil, error=evil)
    made.note("unseen", text=evil)
    made.note("end", exit_code=evil)
    made.file(here / "run.parquet")
    for said in (shown(capsys), shown(capsys, "--step", ":")):
        assert "evil" in said and "\n\n\n" not in said
        assert all(character.isprintable() or character == "\n" for character in said)


def test_notes_of_the_wrong_types_are_no_bug(here, capsys):
    made = example()
    for nonsense in (None, 7, "x", [], {}, [[]], [[1]], [{"a": []}], float("nan"), 10**30):
        made.note("model", name=nonsense, kind=nonsense, tree=nonsense, parameters=nonsense)
        made.note(
            "model",
            name="n",
            tree=[[nonsense, nonsense, nonsense]],
            parameters=[[nonsense, nonsense, nonsense]],
        )
        made.note("optimizer", id=nonsense, groups=nonsense, name=nonsense)
        made.note("incident", place=nonsense, step=nonsense)
        made.note("end", exit_code=nonsense, of=nonsense)
        made.note("unseen", text=nonsense)
        made.note("exception", message=nonsense)
    made.notes[0].update(command=7, started=float("inf"), threads=[])
    made.file(here / "run.parquet")
    shown(capsys)


def test_it_reads_well_through_a_pipe_that_knows_ascii_only(here):
    made = example()
    made.tensor("activation", "層" * 90, 1.0)
    made.file(here / "run.parquet")
    environment = {
        **os.environ,
        "PYTHONIOENCODING": "ascii",
        "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.dirname(__file__))),
    }
    for arguments in ([], ["--kind", "activation"]):
        command = [sys.executable, "-m", "nandoctor", "show", "run.parquet", *arguments]
        found = subprocess.run(command, capture_output=True, env=environment)
        assert found.returncode == 0, found.stderr
        assert b"\x1b" not in found.stdout


def test_a_run_that_still_goes_on_is_called_so(here, capsys, monkeypatch):
    monkeypatch.setattr("nandoctor.trace.open.writer_lives", lambda folder: True)
    example(exit_code=None).spool(here / "run.parquet")
    assert "it still runs" in shown(capsys)
