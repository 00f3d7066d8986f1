"""Revisions are read as they are written; whatever is not one is refused in words."""

from __future__ import annotations

import pickle
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from fsvc.errors import FsvcError, InvalidName, InvalidRevision
from fsvc.format.names import check_feature_set_name, check_ref_name
from fsvc.format.revision import MAX_STEPS, Revision, parse_address, parse_revision

NOVEMBER = datetime(2026, 11, 1, tzinfo=UTC)


def allowed_ref(name: str) -> bool:
    try:
        check_ref_name(name)
    except InvalidName:
        return False
    return True


def allowed_feature_set(name: str) -> bool:
    try:
        check_feature_set_name(name)
    except InvalidName:
        return False
    return True


REFS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("ab/.- 'v1"), min_size=1, max_size=20
).filter(allowed_ref)
BASES = st.one_of(
    st.just(""),
    st.integers(0, 10**9 - 1).map(lambda number: f"v{number}"),
    st.text("0123456789abcdefABCDEF", min_size=4, max_size=64),
    REFS,
)
ZONES = st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES | st.just(UTC))  # noqa: DTZ001
STEPS = st.lists(
    st.tuples(st.sampled_from("~^"), st.integers(0, 3) | st.integers(0, 10**9 - 1)), max_size=MAX_STEPS
).map(tuple)
REVISIONS = st.builds(Revision, BASES, st.none() | TIMES, STEPS).filter(
    lambda revision: revision != Revision()
)


@given(REVISIONS)
@example(Revision("v0"))
@example(Revision("", None, (("^", 0), ("~", 1))))
def test_a_revision_is_read_as_it_is_written(revision: Revision) -> None:
    assert parse_revision(str(revision)) == revision


@given(st.text(st.characters(exclude_categories=["Cs"])).filter(allowed_feature_set), REVISIONS)
def test_an_address_is_read_as_it_is_written(name: str, revision: Revision) -> None:
    assert parse_address(f"{name}@{revision}") == (name, revision)
    assert parse_address(name) == (name, None)


@given(st.text() | st.text("v0123abf~^{}@:-+.TZ /HEAD", max_size=30))
def test_any_text_is_a_revision_or_refused(text: str) -> None:
    try:
        revision = parse_revision(text)
    except InvalidRevision as error:
        assert error.message.isprintable()
        assert len(error.message) < 1100
    else:
        assert parse_revision(str(revision)) == revision


@pytest.mark.parametrize(
    ("text", "revision"),
    [
        ("v3", Revision("v3")),
        ("main", Revision("main")),
        ("feature/try-x", Revision("feature/try-x")),
        ("1a2b3c", Revision("1a2b3c")),
        ("Black Friday", Revision("Black Friday")),
        ("f" * 64, Revision("f" * 64)),
        ("~", Revision(steps=(("~", 1),))),
        ("^", Revision(steps=(("^", 1),))),
        ("v3~2", Revision("v3", steps=(("~", 2),))),
        ("main^2~^0", Revision("main", steps=(("^", 2), ("~", 1), ("^", 0)))),
        ("main{2026-11-01T00:00Z}", Revision("main", NOVEMBER)),
        ("{2026-11-01}", Revision("", NOVEMBER)),
        ("{2026-11-01}~3", Revision("", NOVEMBER, (("~", 3),))),
    ],
)
def test_the_grammar(text: str, revision: Revision) -> None:
    assert parse_revision(text) == revision
    assert parse_address(f"customer_features@{text}") == ("customer_features", revision)


@pytest.mark.parametrize(
    "text",
    [
        "2026-11-01",
        "2026-11-01T00:00Z",
        "2026-11-01 00:00:00Z",
        "2026-11-01t00:00:00.000000z",
        "2026-11-01T01:00+01:00",
        "2026-11-01T05:30+0530",
        "2026-10-31T19:00:00.0-05",
    ],
)
def test_one_instant_has_one_meaning_however_it_is_written(text: str) -> None:
    revision = parse_revision("{" + text + "}")
    assert revision.time == NOVEMBER
    assert revision.time is not None
    assert revision.time.tzinfo is UTC
    assert str(revision) == "{2026-11-01T00:00Z}"


@pytest.mark.parametrize(
    "text",
    [
        "{2026-11-01T09:30Z}",
        "{2026-11-01T09:30:05Z}",
        "main{2026-11-01T09:30:05.000001Z}^2~",
        "{0099-01-01T00:00Z}",
    ],
)
def test_normal_text_comes_back_unchanged(text: str) -> None:
    assert str(parse_revision(text)) == text


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "a revision cannot be empty"),
        ("{}", "'' is not a time"),
        ("{yesterday}", "'yesterday' is not a time"),
        ("{20261101}", "is not a time"),
        ("{2026-W44-7}", "is not a time"),
        ("{2026-11-01Z}", "is not a time"),
        ("{2026-11-01T00}", "is not a time"),
        ("{2026-11-01T24:00Z}", "is not a time"),
        ("{2026-11-01T00:00:00.1234567Z}", "is not a time"),
        ("{2026-11-01T00:00Z }", "is not a time"),
        ("{٢٠٢٦-11-01}", "is not a time"),
        ("{2026-11-01T00:00}", "has no zone"),
        ("{2026-02-30}", "there is no time 2026-02-30"),
        ("{2026-11-01T00:60Z}", "there is no time"),
        ("{2026-11-01T00:00+24:00}", "there is no time"),
        ("{0001-01-01T00:00+01:00}", "out of range"),
        ("{9999-12-31T23:30-01:00}", "out of range"),
        ("{2026-11-01", "is not a revision"),
        ("{2026-11-01}{2026-11-01}", "is not a revision"),
        ("~2{2026-11-01}", "is not a revision"),
        ("{2026-11-01}main", "is not a revision"),
        ("main~x", "is not a revision"),
        ("main~-1", "is not a revision"),
        ("main^{commit}", "is not a revision"),
        ("~01", "~01 is not a step"),
        ("^00", "^00 is not a step".replace("^", "\\^")),
        ("~" + "9" * 10, "is not a step"),
        ("~" * (MAX_STEPS + 1), "at most 50 steps"),
        ("~" * 100_000, "at most 50 steps"),
        ("a@b", "contains '@'"),
        ("a..b/..", "means a directory"),
        ("a:b", "contains ':'"),
        ("-x", "option"),
        (" main", "space"),
        ("main\n", "control character"),
        ("HEAD", "'HEAD' is not a revision"),
        ("HEAD~1", "'HEAD' is not a revision"),
        ("V3", "'V3' is not a version"),
        ("v03", "'v03' is not a version"),
        ("v" + "9" * 5000, "is not a version"),
        ("v٣٣ ", "space"),
    ],
    ids=lambda part: ascii(part[:30]),
)
def test_what_is_not_a_revision_is_refused_with_the_reason(text: str, sentence: str) -> None:
    with pytest.raises(InvalidRevision, match=sentence):
        parse_revision(text)


@pytest.mark.parametrize("text", ["@v3", "@", "a/b@v3", "v3", "v3@v3", "../x@v3", ""])
def test_an_address_needs_the_name_of_a_feature_set(text: str) -> None:
    with pytest.raises(InvalidName, match="a feature set cannot be called"):
        parse_address(text)


@pytest.mark.parametrize("text", ["a@", "a@b@c", "a@@v3", "a@ v3"])
def test_an_address_needs_a_revision_after_the_at(text: str) -> None:
    with pytest.raises(InvalidRevision):
        parse_address(text)


@pytest.mark.parametrize(
    ("base", "version", "prefix"),
    [
        ("v3", 3, None),
        ("v0", 0, None),
        ("v10", 10, None),
        ("main", None, None),
        ("", None, None),
        ("vv3", None, None),
        ("abc", None, None),
        ("abcd", None, "abcd"),
        ("ABCD", None, "abcd"),
        ("0" * 64, None, "0" * 64),
        ("0" * 65, None, None),
    ],
)
def test_a_base_tells_versions_and_commits(base: str, version: int | None, prefix: str | None) -> None:
    assert Revision(base).version == version
    assert Revision(base).commit_prefix == prefix


@pytest.mark.parametrize(
    ("base", "time", "steps"),
    [
        ("a~b", None, ()),
        ("v01", None, ()),
        ("", datetime(2026, 11, 1), ()),  # noqa: DTZ001
        ("", None, (("@", 1),)),
        ("", None, (("~", -1),)),
        ("", None, (("~", 10**9),)),
        ("", None, (("~", 1),) * (MAX_STEPS + 1)),
    ],
)
def test_no_revision_is_made_of_parts_that_have_no_text(
    base: str, time: datetime | None, steps: tuple[tuple[str, int], ...]
) -> None:
    with pytest.raises(InvalidRevision):
        Revision(base, time, steps)


@given(REVISIONS)
def test_revisions_are_values(revision: Revision) -> None:
    copy = pickle.loads(pickle.dumps(revision))
    assert copy == revision
    assert hash(copy) == hash(revision)
    with pytest.raises(AttributeError):
        revision.base = "other"  # type: ignore[misc]


@given(BASES, BASES)
def test_different_bases_have_different_texts(one: str, other: str) -> None:
    assume(one != other)
    assert str(Revision(one)) != str(Revision(other))


def test_errors_are_of_this_house() -> None:
    with pytest.raises(FsvcError) as caught:
        parse_revision("HEAD~1")
    assert caught.value.hint is not None
    assert "~1" in caught.value.hint
