"""nandoctor diagnose FILE on logs, and on every sample: exit codes, JSON by the contract."""

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from nandoctor.cli import run

ROOT = Path(__file__).parents[2]
SAMPLES = sorted(path for path in (ROOT / "sample_logs").iterdir() if path.suffix not in (".parquet", ".md"))
SCHEMA = json.loads((ROOT / "nandoctor" / "contract" / "diagnosis.schema.json").read_text())


def typed(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "nandoctor", "diagnose", *arguments]
    return subprocess.run(command, capture_output=True, text=True, encoding="utf-8")


def test_each_kind_has_a_sick_and_a_healthy_sample():
    kinds = {path.name.rpartition("-")[0] for path in SAMPLES}
    assert kinds >= {
        "text", "chinese", "tqdm", "lightning", "trainer", "training_history", "trainer_state", "metrics", "events",
    }  # fmt: skip
    for kind in kinds:
        assert {path.stem.rpartition("-")[2] for path in SAMPLES if path.name.startswith(f"{kind}-")} >= {
            "sick",
            "healthy",
        }


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.name)
def test_a_sample_is_told_as_its_name_says_and_its_json_fits_the_contract(
    path: Path, capsys: pytest.CaptureFixture[str]
):
    if path.suffix == ".tfevents":
        pytest.importorskip("tensorboard")
    code = run(["diagnose", str(path), "--json"])
    document = json.loads(capsys.readouterr().out)
    jsonschema.validate(document, SCHEMA)
    healthy = path.stem.endswith("healthy")
    assert (document["verdict"] == "healthy") == healthy and code == (0 if healthy else 1)
    assert bool(document["findings"]) != healthy and document["first_nonfinite"] is None


def test_the_readme_tells_every_sample():
    told = (ROOT / "sample_logs" / "README.md").read_text(encoding="utf-8")
    for path in (ROOT / "sample_logs").iterdir():
        assert path.name == "README.md" or path.name in told


def test_a_sick_log_is_printed_for_a_person_and_exits_1():
    done = typed(str(ROOT / "sample_logs" / "text-sick.log"))
    assert done.returncode == 1 and done.stdout.startswith("unknown: The training loss was nan in epoch 4")
    assert done.stderr == ""


def test_the_docs_show_what_is_really_printed(capsys: pytest.CaptureFixture[str]):
    shown = (ROOT / "docs" / "logs.md").read_text(encoding="utf-8").split("$ nandoctor diagnose ")[1:]
    assert len(shown) == 3
    for block in shown:
        path, _, printed = block.partition("\n\n")
        run(["diagnose", str(ROOT / path)])
        assert capsys.readouterr().out.splitlines()[:2] == printed.splitlines()[:2]


def test_a_file_without_training_exits_2_in_words(tmp_path: Path):
    (tmp_path / "poem.txt").write_text("roses are red\n")
    done = typed(str(tmp_path / "poem.txt"))
    assert done.returncode == 2 and "NO TRAINING IN IT" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [b"", b"\x00\x01\x02\x03" * 50])
def test_what_is_neither_trace_nor_log_exits_2_in_words(tmp_path: Path, content: bytes):
    (tmp_path / "thing").write_bytes(content)
    done = typed(str(tmp_path / "thing"))
    assert done.returncode == 2 and "NOT A TRACE" in done.stderr and "Traceback" not in done.stderr
