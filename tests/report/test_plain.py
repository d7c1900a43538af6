"""plain(): what a trace says, without what it could do to a terminal."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nandoctor.report.plain import LONGEST, plain


@pytest.mark.parametrize("text, seen", [
    ("blocks.3.attn", "blocks.3.attn"),
    ("層.0 größer", "層.0 größer"),
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b]0;a title\x07name", "name"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9b2Jname", "name"),
    ("\x1bcname", "name"),
    ("a\x1b", "a"),
    ("a\x1b[", "a"),
    ("fc\u202e1\u2066", "fc1"),
    ("line\nbreak\ttab", "line break tab"),
    ("\x00\x07\x7f", ""),
    ("\ud800x", "x"),
    (None, "None"),
    (3.5, "3.5"),
])  # fmt: skip
def test_only_what_can_be_seen_is_left(text, seen):
    assert plain(text) == seen


def test_a_long_text_keeps_its_ends():
    assert plain("blocks." + "x" * 500 + ".weight", 20) == "blocks.xxx…xx.weight"


@given(st.text(), st.integers(10, 300))
def test_whatever_comes_in_one_printable_line_comes_out(text, longest):
    found = plain(text, longest)
    assert found.isprintable() and len(found) <= longest


def test_a_text_of_a_gigabyte_is_not_read_to_its_end():
    assert len(plain("x" * 10_000_000)) == LONGEST
