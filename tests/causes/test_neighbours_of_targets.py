"""A bad target is a bad label where it is missing, and bad data where it was computed."""

from nandoctor.diagnosis import diagnose_trace
from tests.builders import trace


def verdict(tensor: str, kind: str) -> str:
    incident = {"note": "incident", "step": 1, "phase": "input", "alarm": "loss", "tensor": tensor, "kind": kind}
    return diagnose_trace(trace(loss="2 nan", notes=[incident])).verdict


def test_a_missing_target_is_a_bad_label():
    assert verdict("1", "nan") == verdict("batch['labels']", "nan") == verdict("target", "nan") == "bad-labels"


def test_a_target_that_was_computed_to_inf_is_bad_data():
    assert verdict("1", "-inf") == verdict("y", "inf") == "bad-input-data"


def test_an_input_is_bad_data():
    assert verdict("0", "nan") == verdict("pixels.x", "nan") == "bad-input-data"
