"""Names that are allowed, and a file-name form that is injective even where case does not count."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fsvc.errors import Corruption, InvalidName
from fsvc.format import names

ALLOWED = [
    "customer_features",
    "Customer Features (v2)",
    "a",
    "v",
    "v3b",
    "x.y.z",
    "it's",
    'the "best" one',
    "größe",
    "顧客",
    "données-2026",
    "deadbeef",
    "console",
    "com10",
    "lpt",
    "100%",
    "a#b&c=d;e,f+g!$(h)",
    "x" * 200,
    "é" * 100,
    "\U0001f600",
]

REFUSED = [
    ("", "a name cannot be empty"),
    ("x" * 201, "too long \\(201 bytes"),
    ("é" * 101, "too long \\(202 bytes"),
    ("x" * 1_000_000, "too long"),
    ("e\u0301", "normal form NFC"),
    ("\u212b", "normal form NFC"),
    ("a\x00b", "control character \\(U\\+0000\\)"),
    ("a\nb", "control character \\(U\\+000A\\)"),
    ("a\x1b[31mb", "control character \\(U\\+001B\\)"),
    ("a\x7f", "control character"),
    ("a\x85b", "control character"),
    ("a\u202eb", "invisible formatting character \\(U\\+202E\\)"),
    ("a\u200bb", "invisible formatting character"),
    ("\ufeffa", "invisible formatting character"),
    ("a\u2028b", "line separator"),
    ("a\u2029b", "paragraph separator"),
    ("\ud800", "half of a surrogate pair"),
    *[(f"a{character}b", f"contains {re.escape(repr(character))}") for character in "\\@:~^{}*?<>|"],
    (" a", "begins or ends with a space"),
    ("a ", "begins or ends with a space"),
    ("a\u00a0", "begins or ends with a space"),
    (".a", "begins or ends with a dot"),
    ("a.", "begins or ends with a dot"),
    (".", "means a directory"),
    ("..", "means a directory"),
    ("-a", "option"),
    ("--help", "option"),
    *[
        (name, "Windows")
        for name in ["CON", "con", "Nul", "aux.txt", "COM1", "lpt9.tar.gz", "com¹", "PRN .x", "CONIN$"]
    ],
    ("v3", "is a version"),
    ("V3", "is a version"),
    ("v0", "is a version"),
    ("v00012", "is a version"),
]

SLASHED = [
    ("/a", "empty component"),
    ("a/", "empty component"),
    ("a//b", "empty component"),
    ("/", "empty component"),
    ("../x", "means a directory"),
    ("a/../b", "means a directory"),
    ("a/./b", "means a directory"),
    ("a/.b", "dot"),
    ("a./b", "dot"),
    ("a/ b", "space"),
    ("a/con", "Windows"),
    ("a/-b", "option"),
]

ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)
NAMELIKE = st.text(st.sampled_from("aAbBzZ09_-.%/ eéÉßsSiIİı\u0301Kk\u212a"), min_size=1, max_size=12)


@pytest.mark.parametrize("name", ALLOWED, ids=lambda name: ascii(name[:20]))
def test_a_good_name_is_taken(name: str) -> None:
    names.check_feature_set_name(name)


@pytest.mark.parametrize(
    "name", [*ALLOWED[:16], "feature/try-x", "mlflow/m-0123", "a/b/c", "head", "a/v3", "f" * 63]
)
def test_a_good_name_of_a_ref_is_taken(name: str) -> None:
    names.check_ref_name(name)
    names.check_ref_name(name, kind="tag")


@pytest.mark.parametrize(("name", "reason"), REFUSED, ids=lambda part: ascii(part[:20]))
def test_a_bad_name_is_refused_with_the_reason(name: str, reason: str) -> None:
    with pytest.raises(InvalidName, match=f"a feature set cannot be called .*{reason}"):
        names.check_feature_set_name(name)
    with pytest.raises(InvalidName, match=f"a tag cannot be called .*{reason}"):
        names.check_ref_name(name, kind="tag")


@pytest.mark.parametrize(("name", "reason"), SLASHED)
def test_slashes_stand_between_components_of_refs_only(name: str, reason: str) -> None:
    with pytest.raises(InvalidName, match=f"a branch cannot be called .*{reason}"):
        names.check_ref_name(name)
    with pytest.raises(InvalidName, match="contains '/'"):
        names.check_feature_set_name(name)


@pytest.mark.parametrize("name", ["HEAD", "0123456789abcdef" * 4, "F" * 64])
def test_a_ref_cannot_be_called_what_a_revision_means_otherwise(name: str) -> None:
    names.check_feature_set_name(name)
    with pytest.raises(InvalidName):
        names.check_ref_name(name)


def test_a_ref_whose_file_name_would_be_too_long_is_refused() -> None:
    names.check_ref_name("X" * 80)
    names.check_feature_set_name("X" * 81)
    with pytest.raises(InvalidName, match="too long as a file name"):
        names.check_ref_name("X" * 81)


@pytest.mark.parametrize("name", [None, 3, b"a"])
def test_what_is_not_text_is_no_name(name: object) -> None:
    with pytest.raises(InvalidName, match="a name is a str"):
        names.check_feature_set_name(name)  # type: ignore[arg-type]


@given(st.text())
@example("\x1b]0;owned\x07")
@example("\ud800")
def test_messages_can_be_printed_whatever_the_name(name: str) -> None:
    try:
        names.check_ref_name(name)
    except InvalidName as error:
        assert error.message.isprintable()
        assert len(error.message) < 1100
        error.message.encode("utf-8")


@given(ANY_TEXT | NAMELIKE)
def test_an_allowed_name_is_a_single_safe_file_name(name: str) -> None:
    try:
        names.check_feature_set_name(name)
    except InvalidName:
        assume(False)
    assert unicodedata.normalize("NFC", name) == name
    assert not set(name) & set("/\\:*?<>|\0\n\r")
    assert name.strip(" .") == name


# --- escaping


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("main", "main"),
        ("feature/x", "feature%2fx"),
        ("Main", "%4dain"),
        ("a.b", "a.b"),
        (".a.", "%2ea%2e"),
        ("a%2f", "a%252f"),
        ("é", "%c3%a9"),
        ("a b", "a%20b"),
        ("x_-9", "x_-9"),
    ],
)
def test_the_escaped_form_is_frozen(name: str, text: str) -> None:
    assert names.escape(name) == text
    assert names.unescape(text) == name


@given(ANY_TEXT | NAMELIKE)
def test_an_escaped_name_comes_back(name: str) -> None:
    text = names.escape(name)
    assert re.fullmatch(r"[a-z0-9_%-](?:[a-z0-9_.%-]*[a-z0-9_%-])?", text)
    assert names.unescape(text) == name


@given(NAMELIKE, NAMELIKE)
@example("k", "\u212a")
@example("a", "A")
@example("%41", "A")
def test_different_names_have_different_files_where_case_does_not_count(one: str, other: str) -> None:
    assume(one != other)
    assert names.escape(one).casefold() != names.escape(other).casefold()


@given(st.text("aA%2ef0.c3é", max_size=12))
def test_only_what_escape_writes_is_unescaped(text: str) -> None:
    try:
        name = names.unescape(text)
    except Corruption:
        return
    assert names.escape(name) == text


@pytest.mark.parametrize(
    "text", ["", "A", "%4D", "%61", "%", "%2", "%ff", "a/b", ".a", "a.", "a b", "é", "%c3", "a\n"]
)
def test_what_escape_never_writes_is_corrupt(text: str) -> None:
    with pytest.raises(Corruption, match="is not an escaped name"):
        names.unescape(text)


@pytest.mark.parametrize("name", ["", "\ud800"])
def test_what_has_no_bytes_cannot_be_escaped(name: str) -> None:
    with pytest.raises(InvalidName):
        names.escape(name)


# --- twins and neighbours


@pytest.mark.parametrize(
    ("name", "others", "twin"),
    [
        ("main", ["Main"], "Main"),
        ("main", ["main"], None),
        ("main", [], None),
        ("MAIN", ["x", "main", "Main"], "main"),
        ("straße", ["STRASSE"], "STRASSE"),
        ("É", ["é"], "é"),
        ("a", ["b"], None),
    ],
)
def test_case_twins(name: str, others: list[str], twin: str | None) -> None:
    assert names.case_twin(name, others) == twin


def test_the_nearest_names_are_suggested() -> None:
    candidates = ["customer_features", "customer_labels", "orders"]
    assert names.nearest("custmer_features", candidates) == ["customer_features"]
    assert names.nearest("CUSTOMER_LABELS", candidates) == ["customer_labels"]
    assert names.nearest("customer_feature", candidates, n=2) == ["customer_features", "customer_labels"]
    assert names.nearest("zzz", candidates) == []
    assert names.nearest("orders", [], n=3) == []
    assert names.nearest("orders", candidates, n=0) == []
    assert names.nearest("x" * 1_000_000, candidates) == []


@given(NAMELIKE, st.lists(NAMELIKE), st.integers(0, 4))
def test_suggestions_are_candidates_and_a_twin_comes_first(name: str, candidates: list[str], n: int) -> None:
    found = names.nearest(name, iter(candidates), n=n)
    assert len(found) <= n
    assert len(set(found)) == len(found)
    assert set(found) <= set(candidates)
    if n and name in candidates:
        assert names.case_twin(found[0], [name]) is not None or found[0] == name
