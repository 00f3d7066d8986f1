"""What is printed: clean, aligned, in the right place."""

from __future__ import annotations

import json
import unicodedata
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsvc.cli import output
from fsvc.cli.output import Output, ago, clean, clip, counted, human_size, printed_width


@given(st.text())
def test_nothing_that_a_terminal_obeys_is_left(text):
    left = clean(text)
    assert not {unicodedata.category(c) for c in left} & {"Cc", "Cs", "Zl", "Zp"}
    assert not set(left) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f\ufeff")


def test_cleaning_escapes_and_leaves_text_alone():
    assert clean("a\x1b[2Jb\r\n\u202e\x9b") == "a\\x1b[2Jb\\r\\n\\u202e\\x9b"
    assert clean("grüße, 数据 👩‍🔬") == "grüße, 数据 👩‍🔬"
    assert clean("a\nb\x00", lines=True) == "a\nb\\x00"


@given(st.text(), st.integers(2, 40))
def test_clipping_keeps_to_the_width(text, width):
    text = clean(text)
    assert printed_width(clip(text, width)) <= width
    if printed_width(text) <= width:
        assert clip(text, width) == text


def test_tables_are_aligned_whatever_the_script(capsys):
    Output().table(["name", "rows"], [("数据", "1"), ("a\tb", "1,000"), ("x", "")], right=("rows",))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["NAME   ROWS", "数据      1", "a\\tb  1,000", "x"]
    Output().table(["name"], [])
    assert capsys.readouterr().out == ""


def test_styles_are_for_terminals_only(capsys, monkeypatch):
    out = Output()
    assert out.styled("x\x1b", fg="red") == "x\\x1b"
    monkeypatch.setattr(output, "is_terminal", lambda stream: True)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert out.styled("x\x1b", fg="red") == "\x1b[31mx\\x1b\x1b[0m"
    monkeypatch.setenv("NO_COLOR", "1")
    assert out.styled("x", fg="red") == "x"


def test_a_document_is_safe_for_any_terminal(capsys):
    Output(json=True).document({"name": "\x1b\x9b\u202eé"})
    text = capsys.readouterr().out
    assert text.isascii() and json.loads(text) == {"name": "\x1b\x9b\u202eé"}
    with pytest.raises(ValueError, match="JSON"):
        Output(json=True).document({"x": float("nan")})


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"),
     (17_300_000, "17.3 MB"), (5 * 10**18, "5000.0 PB")],
)  # fmt: skip
def test_sizes(size, text):
    assert human_size(size) == text


def test_counts():
    assert [counted(1, "row"), counted(0, "row"), counted(1200, "entry", "entries")] == [
        "1 row",
        "0 rows",
        "1,200 entries",
    ]


@pytest.mark.parametrize(
    ("age", "text"),
    [
        (timedelta(seconds=3), "just now"),
        (timedelta(minutes=1), "1 minute ago"),
        (timedelta(hours=5, minutes=59), "5 hours ago"),
        (timedelta(days=29), "29 days ago"),
        (timedelta(days=31), "2026-02-12"),
        (timedelta(days=-1), "2026-03-16"),
    ],
)
def test_ages(age, text):
    now = datetime(2026, 3, 15, 12, tzinfo=UTC)
    assert ago((now - age).isoformat(), now) == text
