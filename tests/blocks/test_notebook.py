"""nandoctor.diagnose(path): a Diagnosis that print and notebooks show."""

import dataclasses
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

import nandoctor
from nandoctor.diagnosis import Diagnosis
from nandoctor.errors import UserError

SAMPLES = Path(__file__).parents[2] / "sample_logs"
VOID = {"br", "img", "hr"}


class Structure(HTMLParser):
    """Checks that each element is closed in its place; collects tags and text."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def structure(found):
    parser = Structure()
    parser.feed(found._repr_html_())
    parser.close()
    assert parser.open == []
    return parser


@pytest.mark.parametrize("path", sorted(SAMPLES.glob("*.parquet"))[::4], ids=lambda path: path.stem)
def test_a_sample_is_shown(path):
    found = nandoctor.diagnose(path)
    shown = structure(found)
    assert isinstance(found, Diagnosis) and found.verdict in shown.text
    assert "script" not in shown.tags and "style" not in shown.tags
    for remedy in found.findings[0].remedies[:3] if found.findings else ():
        assert remedy.title in shown.text


@pytest.mark.parametrize("name", ["text-sick.log", "training_history-sick.csv", "trainer_state-sick.json"])
def test_logs_are_diagnosed_by_the_same_call(name):
    found = nandoctor.diagnose(str(SAMPLES / name))
    assert found.verdict != "healthy" and "From a log alone" in structure(found).text


def test_print_shows_what_the_command_prints():
    sample = SAMPLES / "masked-softmax.parquet"
    command = [sys.executable, "-m", "nandoctor", "diagnose", str(sample)]
    printed = subprocess.run(command, capture_output=True, text=True).stdout
    assert str(nandoctor.diagnose(sample)) + "\n" == printed == repr(nandoctor.diagnose(sample)) + "\n"


def test_what_a_stranger_wrote_into_a_trace_stays_text():
    found = nandoctor.diagnose(SAMPLES / "masked-softmax.parquet")
    hostile = "<script>alert(1)</script>&amp;<b>"
    bad = dataclasses.replace(found.first_nonfinite, layer=hostile, text=hostile, op=hostile)
    finding = dataclasses.replace(found.findings[0], summary=hostile, cause=hostile)
    shown = structure(
        dataclasses.replace(found, first_nonfinite=bad, findings=(finding, finding), not_seen=(hostile,))
    )
    assert "script" not in shown.tags and "b" not in shown.tags and hostile in shown.text


def test_causes_are_muted_by_their_ids():
    assert nandoctor.diagnose(SAMPLES / "masked-softmax.parquet", mute=("masked-softmax",)).verdict != "masked-softmax"
    with pytest.raises(UserError):
        nandoctor.diagnose(SAMPLES / "masked-softmax.parquet", mute=("no-such-cause",))


def test_what_is_no_trace_is_said_in_words(tmp_path):
    with pytest.raises(UserError) as caught:
        nandoctor.diagnose(tmp_path / "none.parquet")
    assert "NO TRACE THERE" in str(caught.value)


def test_import_nandoctor_brings_in_neither_torch_nor_a_framework():
    code = "import nandoctor, sys; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert loaded.isdisjoint({"torch", "numpy", "pandas", "pyarrow", "lightning", "transformers", "nandoctor.blocks"})
