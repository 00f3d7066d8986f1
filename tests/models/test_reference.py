"""References read back what they wrote, and refuse everything else by an error of fsvc."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fsvc.errors import Corruption, FsvcError, InvalidUse
from fsvc.format.reference import TRAIN, DataLineage, Reference, check_role

IDS = st.text("0123456789abcdef", min_size=64, max_size=64)
ROLES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}", fullmatch=True)
REFERENCES = st.builds(
    Reference,
    st.uuids().map(str),
    st.text(min_size=1),
    IDS,
    IDS,
    st.integers(1),
    st.none() | st.text(),
    st.integers(0),
    st.none() | st.lists(st.text(), max_size=4).map(tuple),
)


@st.composite
def lineages(draw: st.DrawFn) -> DataLineage:
    found = draw(st.dictionaries(ROLES.filter(lambda role: role != TRAIN), REFERENCES, max_size=3))
    if draw(st.booleans()):
        found = {TRAIN: draw(REFERENCES), **found}
    return DataLineage(found, draw(st.none() | st.from_regex(r"[0-9a-z-]{1,80}", fullmatch=True)))


@given(lineages())
def test_metadata_read_back_are_the_same(lineage: DataLineage) -> None:
    metadata = lineage.metadata()
    found = DataLineage.parse(json.loads(json.dumps(metadata)), what="the model")
    assert found == lineage
    assert list(found.references) == list(lineage.references)
    assert found.metadata() == metadata


@given(REFERENCES)
def test_a_reference_read_back_is_the_same(reference: Reference) -> None:
    document = json.loads(json.dumps(reference.document()))
    assert Reference.parse({**document, "unknown": 1}, what="the model") == reference


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values within JSON values."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, item in inner for place in places(item, (*path, key)))]


@given(lineages(), st.data())
def test_no_edit_raises_anything_else_or_passes_as_another_kind(
    lineage: DataLineage, data: st.DataObject
) -> None:
    metadata = copy.deepcopy(lineage.metadata())
    for _ in range(data.draw(st.integers(1, 3))):
        path = data.draw(st.sampled_from(places(metadata)))
        if not path:
            continue
        owner = metadata
        for step in path[:-1]:
            owner = owner[step]
        if data.draw(st.booleans()):
            del owner[path[-1]]
        else:
            owner[path[-1]] = data.draw(JSON)
    try:
        found = DataLineage.parse(metadata, what="the model")
    except FsvcError as error:
        assert "the model" in error.message
        return
    if found is None:
        assert "fsvc" not in metadata
        return
    # What is accepted is what the metadata say, of the kinds that they must be.
    again = DataLineage.parse(json.loads(json.dumps(found.metadata())), what="the model")
    assert again == found
    for reference in found.references.values():
        assert len(reference.commit) == len(reference.snapshot) == 64
        assert reference.rows >= 0 < reference.version


@given(JSON)
def test_arbitrary_values_are_no_metadata(value: Any) -> None:
    for metadata in (value, {"fsvc": value}):
        try:
            found = DataLineage.parse(metadata, what="the model")
        except FsvcError:
            continue
        assert found is None or found.references == {}
    with pytest.raises(Corruption):
        Reference.parse(value, what="the model")


@pytest.mark.parametrize("role", ["", " ", "a b", "-a", "a/b", "ü", "a" * 64, None, 5, "a\n"])
def test_roles_that_are_none(role: Any) -> None:
    with pytest.raises(InvalidUse, match="cannot be a role"):
        check_role(role)
