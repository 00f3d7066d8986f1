"""Canonical JSON has one frozen form; strict reading refuses what two readers could take differently."""

from __future__ import annotations

import enum
import json
import time
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import example, given
from hypothesis import strategies as st

from fsvc.errors import Corruption, InvalidUse
from fsvc.format import strictjson

_TEXT = st.text(st.characters(exclude_categories=["Cs"]))
_SCALARS = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | _TEXT
VALUES = st.recursive(_SCALARS, lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner), max_leaves=30)
OBJECTS = st.dictionaries(_TEXT.filter(lambda key: key != "blake3"), VALUES)


def nested(depth: int) -> Any:
    value: Any = []
    for level in range(depth - 1):
        value = [value] if level % 2 else {"a": value}
    return value


# --- writing


def test_the_canonical_form_is_frozen() -> None:
    value = {
        "z": [1, -1, 0, True, False, None, -(2**63), 2**64 - 1],
        "é": "é\u2028\x7f\U0001f600",
        "": {},
        "Z": '"\\/\b\t\n\f\r\x00\x1f',
        "\uffff": [],
        "\U00010000": [[]],
    }
    assert strictjson.dumps(value) == (
        b'{"":{},'
        b'"Z":"\\"\\\\/\\b\\t\\n\\f\\r\\u0000\\u001f",'
        b'"z":[1,-1,0,true,false,null,-9223372036854775808,18446744073709551615],'
        b'"\xc3\xa9":"\xc3\xa9\xe2\x80\xa8\x7f\xf0\x9f\x98\x80",'
        b'"\xef\xbf\xbf":[],'
        b'"\xf0\x90\x80\x80":[[]]}'
    )


def test_a_seal_is_frozen() -> None:
    assert strictjson.seal({"name": "main", "sequence": 1}) == (
        b'{"blake3":"e11af5abd7a19024eb3fe9a95fee3d734f1acdf2398b8704dc5836ce585417da",'
        b'"name":"main","sequence":1}\n'
    )


@given(OBJECTS)
def test_the_order_of_keys_does_not_show(value: dict[str, Any]) -> None:
    backwards = dict(reversed(value.items()))
    assert strictjson.dumps(backwards) == strictjson.dumps(value)


class Colour(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        b"bytes",
        (1, 2),
        {1},
        {1: 2},
        {None: 1},
        {True: 1},
        {"a": {"b": [Exception]}},
        "\ud800",
        {"\udfff": 1},
        ["\ude00\ud83d"],
        2**64,
        -(2**63) - 1,
        Colour.RED,
        {Colour.RED: 1},
        Level.LOW,
    ],
    ids=ascii,
)
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(InvalidUse):
        strictjson.dumps(value)


def test_nesting_is_bounded_alike_in_both_directions() -> None:
    deepest = strictjson.dumps(nested(strictjson.MAX_DEPTH))
    assert strictjson.loads(deepest, what="It") == nested(strictjson.MAX_DEPTH)
    with pytest.raises(InvalidUse, match="nested more than 64 deep"):
        strictjson.dumps(nested(strictjson.MAX_DEPTH + 1))
    with pytest.raises(Corruption, match="It is nested more than 64 deep"):
        strictjson.loads(b"[" + deepest + b"]", what="It")


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(InvalidUse):
        strictjson.dumps(value)


# --- reading


@given(VALUES)
def test_what_is_written_is_read(value: Any) -> None:
    assert strictjson.loads(strictjson.dumps(value), what="It") == value


@given(VALUES, st.sampled_from([None, 1, "\t"]), st.booleans())
def test_ordinary_json_is_read_whatever_its_layout(value: Any, indent: Any, ascii_only: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    assert strictjson.loads(text.encode(), what="It") == value


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"", "It is not valid JSON at character 0"),
        (b" ", "It is not valid JSON"),
        (b'{"a":1,"a":1}', "It is ambiguous: it has the key 'a' twice"),
        (b'[{"x":{"a":1,"b":2,"\\u0061":1}}]', "It is ambiguous"),
        (b'{"\\u001b[31m":1,"\\u001b[31m":1}', r"the key '\\x1b\[31m' twice"),
        (b"1.0", "It is not exact"),
        (b"[1e3]", "It is not exact"),
        (b"-0.0", "It is not exact"),
        (b"1" * 5000 + b".5", "It is not exact"),
        (b"NaN", "holds NaN"),
        (b"[-Infinity]", "holds -Infinity"),
        (b"18446744073709551616", "It is out of range"),
        (b"-9223372036854775809", "It is out of range"),
        (b"9" * 1_000_000, "It is out of range"),
        (b'"\xff"', "It is not valid UTF-8 at byte 1"),
        (b'"\xed\xa0\x80"', "It is not valid UTF-8"),
        (b'"\xc0\x80"', "It is not valid UTF-8"),
        (b'"\\ud800"', "It is not Unicode text"),
        (b'{"a":[{"\\uDC00":1}]}', "It is not Unicode text"),
        (b'{"a":{"b":["\\udc00\\ud800"]}}', "It is not Unicode text"),
        (b"\xef\xbb\xbf{}", "It is not valid JSON"),
        ("{}".encode("utf-16"), "It is not valid UTF-8"),
        ("{}".encode("utf-16-le"), "It is not valid JSON"),
        (b"{} {}", "It is not valid JSON at character 3"),
        (b"{}\x00", "It is not valid JSON"),
        (b'"a\nb"', "It is not valid JSON"),
        (b"{'a':1}", "It is not valid JSON"),
        (b"[1,]", "It is not valid JSON"),
        (b"[01]", "It is not valid JSON"),
        (b"[+1]", "It is not valid JSON"),
        ("[\u0661]".encode(), "It is not valid JSON"),
        (b"\xc2\xa01", "It is not valid JSON"),
        (b"[" * 200_000, "It is nested more than 64 deep"),
        (b'{"a":' * 200_000, "It is nested more than 64 deep"),
        (b'["\\"",' * 65, "It is nested more than 64 deep"),
        (b"[]]" * 1000, "It is not valid JSON"),
    ],
    ids=lambda part: ascii(part[:24]) if isinstance(part, bytes) else "",
)
def test_what_is_not_strict_json_is_refused(data: bytes, sentence: str) -> None:
    with pytest.raises(Corruption, match=sentence):
        strictjson.loads(data, what="It")


def test_brackets_in_strings_do_not_nest() -> None:
    value = ["[" * 1000, "\\", '"[[[{{{', {"{" * 100: "\\\\\\"}] * 3
    assert strictjson.loads(strictjson.dumps(value), what="It") == value


def test_escaped_characters_beyond_the_basic_plane_are_read() -> None:
    assert strictjson.loads(b'"\\ud83d\\ude00"', what="It") == "\U0001f600"


def test_a_broken_document_never_takes_long() -> None:
    start = time.perf_counter()
    for data in (b'"' + b"\\" * 4_000_001 + b"[" * 100, b'"[' * 2_000_000, b'"' + b"[" * 4_000_000):
        with pytest.raises(Corruption):
            strictjson.loads(data, what="It")
    assert time.perf_counter() - start < 20


def test_size_is_bounded() -> None:
    assert strictjson.loads(b"[1]", what="It", max_bytes=3) == [1]
    with pytest.raises(Corruption, match="It is too large: 4 bytes, where at most 3 are expected"):
        strictjson.loads(b"[10]", what="It", max_bytes=3)


@given(st.binary(max_size=60))
@example(b'{"a":1}')
def test_any_bytes_are_read_or_refused_as_corrupt(data: bytes) -> None:
    try:
        value = strictjson.loads(data, what="It")
    except Corruption:
        return
    assert strictjson.loads(strictjson.dumps(value), what="It") == value


@given(st.text(alphabet='[]{}",:\\ud8c0 1-.eE', max_size=40))
def test_any_nearly_json_is_read_or_refused_as_corrupt(text: str) -> None:
    try:
        value = strictjson.loads(text.encode(), what="It", max_depth=3)
    except Corruption:
        return
    assert strictjson.loads(strictjson.dumps(value), what="It", max_depth=3) == value


# --- seals


@given(OBJECTS)
def test_a_sealed_value_comes_back(value: dict[str, Any]) -> None:
    sealed = strictjson.seal(value)
    assert sealed.endswith(b"\n")
    assert strictjson.loads(sealed, what="It")["blake3"] == blake3(strictjson.dumps(value)).hexdigest()
    assert strictjson.unseal(sealed, what="It") == value


@given(OBJECTS, st.data())
def test_any_other_bytes_are_refused(value: dict[str, Any], data: st.DataObject) -> None:
    sealed = strictjson.seal(value)
    place = data.draw(st.integers(0, len(sealed) - 1))
    damaged = data.draw(
        st.sampled_from(
            [
                sealed[:place],
                sealed + sealed[:1],
                sealed + b"\n",
                sealed[:place] + b" " + sealed[place:],
                sealed[:place] + bytes([sealed[place] ^ 1 << place % 8]) + sealed[place + 1 :],
            ]
        )
    )
    with pytest.raises(Corruption, match="It is "):
        strictjson.unseal(damaged, what="It")


def test_a_seal_that_does_not_match_is_said_to_be_damage() -> None:
    sealed = strictjson.seal({"sequence": 1})
    with pytest.raises(Corruption, match="It is damaged: its content does not match its seal"):
        strictjson.unseal(sealed.replace(b"1}", b"2}"), what="It")


def test_an_equal_value_in_other_bytes_is_refused() -> None:
    value = strictjson.loads(strictjson.seal({"b": 1, "a": 2}), what="It")
    with pytest.raises(Corruption, match="It is not in canonical form"):
        strictjson.unseal(json.dumps(value, indent=1).encode(), what="It")


@pytest.mark.parametrize("data", [b"[]\n", b"{}\n", b'{"blake3":1}\n', b'"blake3"\n'])
def test_what_has_no_seal_is_refused(data: bytes) -> None:
    with pytest.raises(Corruption, match="It is not"):
        strictjson.unseal(data, what="It")


def test_only_unsealed_dicts_can_be_sealed() -> None:
    with pytest.raises(InvalidUse, match="'blake3'"):
        strictjson.seal({"blake3": ""})
    with pytest.raises(InvalidUse, match="list"):
        strictjson.seal([])  # type: ignore[arg-type]
