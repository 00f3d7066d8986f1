"""Differences: applied to the old table they give the new one, and they read no more than what differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import strategies
from edits import Pool, Rows, edited, pools, short_groups, start
from faulty import FaultyStorage
from hypothesis import given
from hypothesis import strategies as st
from memory import memory_repository

import fsvc
from fsvc.diff import CommitDiff, Diff
from fsvc.engine.diff import SchemaChange
from fsvc.engine.store import Store
from fsvc.errors import InvalidUse, KeyViolation, NotFound
from fsvc.repository import Repository
from fsvc.snapshot import Snapshot
from fsvc.storage.memory import MemoryStorage

SEEDS = st.integers(0, 2**32 - 1)


def two(before: Any, after: Any, key: Any = ()) -> tuple[Snapshot, Snapshot]:
    repository = memory_repository()
    one = repository.commit({"t": before}, key=key, message="before").snapshot("t")
    other = repository.commit({"t": after}, key=key, message="after").snapshot("t")
    return one, other


def diff_of(before: Any, after: Any, key: Any = (), **options: Any) -> Diff:
    return Diff(*two(before, after, key), **options)


# Applying a diff ------------------------------------------------------------------------------------


def apply(before: pa.Table, changes: pa.Table, key: tuple[str, ...], rows_after: int) -> list[Any] | None:
    """The rows that a table has once its listed rows are changed, bit for bit; None where order cannot be told."""
    names = [name for name in before.column_names if name not in key]
    rows = [list(cells) for cells in zip(*(strategies.bits(before[n]) for n in names), strict=True)]
    rows = rows or [[] for _ in range(before.num_rows)]
    keys = list(zip(*(strategies.bits(before[name]) for name in key), strict=True))
    rows = [[*k, *cells] for k, cells in zip(keys, rows, strict=True)] if key else rows
    listed = {name: changes[name].chunk(0) for name in changes.column_names}
    new = {name: strategies.bits(listed["after"].field(name)) for name in names} if names else {}
    keyed = [strategies.bits(plain(listed["key"].field(name))) for name in key] if key else []
    result: list[Any] = [None] * rows_after
    gone = set()
    for i, change in enumerate(changes["change"].to_pylist()):
        old_row, new_row = listed["row_before"][i].as_py(), listed["row_after"][i].as_py()
        if change == "removed":
            gone.add(old_row)
            continue
        row = [values[i] for values in keyed]
        if change == "added":
            row += [new[name][i] for name in names]
        else:
            gone.add(old_row)
            differ = listed["columns"][i].as_py()
            row = rows[old_row][: len(key)] + [
                new[name][i] if name in differ else rows[old_row][len(key) + j]
                for j, name in enumerate(names)
            ]
        result[new_row] = row
    kept = iter(row for number, row in enumerate(rows) if number not in gone)
    return [next(kept) if row is None else row for row in result]


def plain(array: pa.Array) -> pa.Array:
    return array.dictionary_decode() if pa.types.is_dictionary(array.type) else array


@given(pool=pools(), seed=SEEDS)
def test_a_diff_applied_to_the_old_table_gives_the_new_one(pool: Pool, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = len(pool.fields)
    old = start(random, columns)
    new = edited(random, old, columns)
    with short_groups():
        found = diff_of(pool.table(old, random), pool.table(new), pool.key_columns)
        stat, rows = found.stat(), found.rows()
    before, after = pool.table(old), pool.table(new)
    expected = [
        list(row) for row in zip(*(strategies.bits(after[n]) for n in _ordered(after, pool)), strict=True)
    ]
    assert apply(before, rows, pool.key_columns, len(new)) == expected
    counts = rows["change"].to_pylist()
    assert (stat.added, stat.removed, stat.changed) == tuple(
        map(counts.count, ("added", "removed", "changed"))
    )
    assert stat.added == len(new.keys() - old.keys()) and stat.removed == len(old.keys() - new.keys())
    assert stat.moved == 0 and stat.rows == (len(old), len(new))
    differ = {
        field.name: sum(
            not pool.equal(number, old[k][number], new[k][number]) for k in old.keys() & new.keys()
        )
        for number, field in enumerate(pool.fields)
    }
    assert {c.name: c.cells for c in stat.columns if c.cells} == {n: c for n, c in differ.items() if c}
    listed = [name for names in rows["columns"].to_pylist() for name in names]
    assert {name: listed.count(name) for name in listed} == {n: c for n, c in differ.items() if c}
    assert rows.schema == found.rows(limit=1).schema
    few = found.rows(limit=3)
    assert few["row_after"].to_pylist() == rows["row_after"].to_pylist()[:3]
    assert not columns or strategies.bits(few["after"]) == strategies.bits(rows["after"])[:3]
    assert bool(found) == (not pool.same(old, new) or bool(stat.schema))


def _ordered(table: pa.Table, pool: Pool) -> list[str]:
    return [*pool.key_columns, *(name for name in table.column_names if name not in pool.key_columns)]


@given(pool=pools(), seed=SEEDS)
def test_rows_that_moved_are_told_and_their_cells_compared(pool: Pool, seed: int) -> None:
    random = np.random.default_rng(seed)
    old = start(random, len(pool.fields))
    new = edited(random, old, len(pool.fields), reorder=True)
    with short_groups():
        found = diff_of(pool.table(old), pool.table(new), pool.key_columns)
        stat, rows = found.stat(), found.rows()
    kept = [key for key in new if key in old]
    before = [key for key in old if key in new]
    follows = dict(zip(before, [None, *before], strict=False))
    assert stat.moved == sum(follows[key] != last for key, last in zip(kept, [None, *kept], strict=False))
    changed = sum(not pool.same({key: old[key]}, {key: new[key]}) for key in kept)
    assert stat.changed == changed
    places = rows["row_after"].drop_null().to_pylist()
    assert places == sorted(places)


@given(pool=pools(), seed=SEEDS)
def test_without_a_key_rows_are_matched_as_a_multiset(pool: Pool, seed: int) -> None:
    random = np.random.default_rng(seed)
    columns = len(pool.fields)
    old = start(random, columns)
    new = edited(random, old, columns, reorder=True)

    def table(rows: Rows) -> pa.Table:
        # Without the key, and every third row twice.
        whole = pool.table({key: rows[key] for key in rows}).drop_columns(list(pool.key_columns))
        twice = pool.table(dict(list(rows.items())[::3])).drop_columns(list(pool.key_columns))
        numbers = pa.array([key % 5 for key in rows] + [key % 5 for key in list(rows)[::3]], pa.int8())
        joined = [pa.chunked_array([*a.chunks, *b.chunks], a.type) for a, b in zip(whole, twice, strict=True)]
        return pa.Table.from_arrays(
            [numbers, *joined], schema=pa.schema([pa.field("n", pa.int8()), *whole.schema])
        )

    before, after = table(old), table(new)
    with short_groups():
        found = diff_of(before, after)
        stat, rows = found.stat(), found.rows()
    assert "key" not in rows.column_names and stat.key == () and stat.changed == 0
    one, other = (
        [repr(row) for row in zip(*(strategies.bits(c) for c in side.columns), strict=True)]
        for side in (before, after)
    )
    expected = [
        sorted(row for row in set(a) for _ in range(a.count(row) - b.count(row)))
        for a, b in ((one, other), (other, one))
    ]
    for change, column, wanted in (("removed", "before", expected[0]), ("added", "after", expected[1])):
        cells = rows[column].chunk(0)
        values = zip(*(strategies.bits(cells.field(i)) for i in range(len(before.schema))), strict=True)
        found_rows = zip(values, rows["change"].to_pylist(), strict=True)
        assert sorted(repr(row) for row, kind in found_rows if kind == change) == wanted
    assert (stat.removed, stat.added) == tuple(map(len, expected))


# Schemas --------------------------------------------------------------------------------------------

BASE = pa.table(
    {
        "id": pa.array(range(100), pa.int64()),
        "a": pa.array([i / 4 for i in range(100)]),
        "b": pa.array([f"text {i}" for i in range(100)]),
        "n": pa.array(range(100), pa.int32()),
    }
)


def test_changes_of_the_schema_are_told_one_by_one() -> None:
    after = pa.table(
        {
            "id": BASE["id"],
            "c": BASE["b"],
            "a": BASE["a"],
            "n": BASE["n"].cast(pa.int64()),
            "new": pa.array([True] * 100),
        }
    )
    after = after.set_column(2, pa.field("a", pa.float64(), False), after["a"])
    after = after.replace_schema_metadata({"who": "me"})
    found = diff_of(BASE, after, "id")
    assert found.schema == SchemaChange(
        added=("new",),
        renamed=(("b", "c"),),
        retyped=(("n", "int32", "int64"),),
        nullable=("a",),
        metadata=("",),
        reordered=True,
    )
    stat = found.stat()
    assert (stat.added, stat.removed, stat.changed, stat.moved) == (0, 0, 0, 0)
    assert bool(stat) and not found.rows().num_rows


def test_a_column_of_another_kind_is_replaced_not_compared() -> None:
    after = BASE.set_column(3, "n", BASE["n"].cast(pa.string()))
    found = diff_of(BASE, after, "id")
    assert found.schema.replaced == ("n",) and found.schema.retyped == (("n", "int32", "string"),)
    assert found.stat().changed == 0


def test_a_wider_type_differs_only_where_values_do() -> None:
    values = BASE["n"].cast(pa.float64()).combine_chunks()
    after = BASE.set_column(3, "n", pc.if_else(pc.equal(BASE["id"], 7), None, values))
    found = diff_of(BASE, after, "id")
    assert found.stat().changed == 1
    (row,) = found.rows().to_pylist()
    assert row["key"] == {"id": 7} and row["columns"] == ["n"]
    assert (row["before"]["n"], row["after"]["n"]) == (7, None)


def test_a_renamed_column_is_seen_beside_changed_rows_where_groups_show_it() -> None:
    with short_groups():
        values = BASE["a"].to_numpy().copy()
        values[3] = -1
        after = pa.table({"id": BASE["id"], "a": values, "other": BASE["b"], "n": BASE["n"]})
        found = diff_of(BASE, after.slice(0, 99), "id")
        assert found.schema.renamed == (("b", "other"),) and not found.schema.added
        stat = found.stat()
        assert (stat.changed, stat.removed) == (1, 1)


def test_categories_of_the_same_values_are_a_change_of_the_schema() -> None:
    one = pa.DictionaryArray.from_arrays(pa.array([0, 1], pa.int8()), pa.array(["x", "y"]))
    other = pa.DictionaryArray.from_arrays(pa.array([1, 0], pa.int8()), pa.array(["y", "x"]))
    found = diff_of({"id": pa.array([1, 2]), "c": one}, {"id": pa.array([1, 2]), "c": other}, "id")
    assert found and found.schema == SchemaChange(categories=("c",))
    assert found.stat().changed == 0


def test_another_key_is_told_and_rows_are_matched_by_content() -> None:
    repository = memory_repository()
    one = repository.commit({"t": BASE}, key="id", message="1").snapshot("t")
    other = repository.commit({"t": BASE.slice(1)}, key="n", message="2").snapshot("t")
    found = Diff(one, other)
    assert found.schema.key == (("id",), ("n",))
    stat = found.stat()
    assert stat.key == () and (stat.added, stat.removed) == (0, 1)
    assert Diff(one, other, key="id").stat().key == ("id",)


def test_nulls_and_range_of_changed_columns_are_told() -> None:
    values = BASE["a"].to_pylist()
    values[5], values[6] = None, 1000.0
    (column,) = diff_of(BASE, BASE.set_column(1, "a", pa.array(values)), "id").stat().columns
    assert (column.name, column.cells, column.nulls) == ("a", 2, (0, 1))
    assert (column.minimum, column.maximum) == ((0.0, 0.0), (24.75, 1000.0))


# Keys that were asked for ---------------------------------------------------------------------------


def test_a_key_may_be_given_for_tables_without_one() -> None:
    before = {"id": [1, 2, 3], "x": ["a", "b", "c"]}
    after = {"id": [3, 2, 4], "x": ["c", "B", "d"]}
    found = diff_of(before, after, key=())
    assert found.stat().key == ()
    found = Diff(found.before, found.after, key="id")
    stat = found.stat()
    assert (stat.key, stat.added, stat.removed, stat.changed, stat.moved) == (("id",), 1, 1, 1, 2)


@pytest.mark.parametrize(
    ("before", "after", "key", "error", "says"),
    [
        ({"id": [1, 1], "x": [1, 2]}, {"id": [1, 2], "x": [1, 2]}, "id", KeyViolation, "twice before"),
        ({"id": [1, 2], "x": [1, 2]}, {"id": [2, 2], "x": [1, 2]}, "id", KeyViolation, "twice after"),
        (
            {"id": [1, None], "x": [1, 2]},
            {"id": [1, 2], "x": [1, 2]},
            "id",
            KeyViolation,
            "null in row 1 before",
        ),
        ({"id": [1], "x": [1]}, {"id": ["a"], "x": [1]}, "id", InvalidUse, "int64 before and string after"),
        ({"id": [1], "x": [1]}, {"id": [1], "x": [2]}, "ix", NotFound, "no column 'ix'"),
    ],
)
def test_a_key_that_is_none_is_refused(
    before: Any, after: Any, key: str, error: type[Exception], says: str
) -> None:
    one, other = two(before, after)
    with pytest.raises(error, match=says):
        Diff(one, other, key=key).stat()


# Addresses, commits, tables that are not committed ---------------------------------------------------


def history() -> Repository:
    repository = memory_repository()
    repository.commit({"t": BASE, "same": BASE}, key="id", message="1")
    repository.commit({"t": BASE.slice(2), "more": BASE}, key="id", message="2")
    return repository


def test_a_diff_takes_addresses_revisions_snapshots_and_commits() -> None:
    repository = history()
    found = repository.diff("t@v1", "t@v2")
    assert isinstance(found, Diff) and found.stat().removed == 2
    assert repository.diff(repository.snapshot("t@v1"), "t").stat() == found.stat()
    commits = repository.diff("~1", "main")
    assert isinstance(commits, CommitDiff)
    assert list(commits) == ["t"] and commits.added == ["more"] and commits.removed == []
    assert commits.stat() == {"t": found.stat()}
    assert repository.diff(repository.resolve("~1"), repository.resolve()).stat() == commits.stat()
    assert not repository.diff("main", "main")
    with pytest.raises(InvalidUse, match="a commit cannot be compared with a snapshot"):
        repository.diff("main", "t@v1")
    with pytest.raises(NotFound, match="did you mean|no branch|no version"):
        repository.diff("mian", "main")


def test_a_table_that_is_not_committed_is_compared_and_leaves_nothing_behind(tmp_path: Path) -> None:
    repository = fsvc.init(tmp_path / "r")
    repository.commit({"t": BASE}, key="id", message="1")
    stored = sorted(path for path in (tmp_path / "r").rglob("*"))
    path = tmp_path / "t.parquet"
    pq.write_table(BASE.slice(3), path)
    for table in (path, BASE.slice(3), BASE.slice(3).to_pandas()):
        found = repository.diff("t", table)
        assert found.stat().removed == 3
    assert not repository.diff("t", BASE)
    assert sorted(path for path in (tmp_path / "r").rglob("*")) == stored
    with pytest.raises(KeyViolation):
        repository.diff("t", pa.concat_tables([BASE, BASE]))
    with pytest.raises(InvalidUse, match="before it"):
        repository.diff(BASE, "t")


def test_a_diff_is_a_relation_to_query_further() -> None:
    found = history().diff("t@v1", "t@v2").relation()
    rows = found.filter("change = 'removed'").project("key.id, before.b").fetchall()
    assert rows == [(0, "text 0"), (1, "text 1")]


# What is read ---------------------------------------------------------------------------------------


class Counting(FaultyStorage):
    """Remembers which ranges of packs were read."""

    def __init__(self) -> None:
        super().__init__(MemoryStorage())
        self.ranges: list[tuple[str, int, int]] = []

    def get_range(self, key: str, start: int, length: int) -> bytes:
        self.ranges.append((key, start, length))
        return super().get_range(key, start, length)


def test_groups_and_columns_that_both_sides_share_are_not_read() -> None:
    from fsvc.engine.store import create

    storage = Counting()
    create(storage, time="2026-11-01T12:00:00.000000Z")
    repository = Repository(Store(storage), author="ann")
    rows = 2_000
    table = pa.table({"id": range(rows), **{f"x{i}": np.arange(rows) * i / 7 for i in range(10)}})
    values = table["x3"].to_numpy().copy()
    values[500:505] += 1
    with short_groups():
        repository.commit({"t": table}, key="id", message="1")
        repository.commit({"t": table.set_column(4, "x3", pa.array(values))}, message="2")
        one, other = repository.snapshot("t@v1"), repository.snapshot("t@v2")
        groups = len(one.manifest.rows)
        assert groups > 50
        column = one.schema.get_field_index("x3")
        own = [entry for snapshot in (one, other) for entry in (snapshot.reader.entries([column])[0])]
        shared = {entry.address for entry in own if [e.address for e in own].count(entry.address) > 1}
        expected = {(f"packs/{e.pack}.pack", e.offset, e.length) for e in own if e.address not in shared}
        assert 2 <= len(expected) <= 4
        storage.ranges.clear()
        assert Diff(one, other).stat().changed == 5
        assert set(storage.ranges) == expected
        total = sum(e.length for e in one.reader.entries([column])[0]) * len(table.schema)
        assert sum(length for _, _, length in storage.ranges) * 100 < total * 5


def test_of_a_selection_only_the_selected_columns_are_compared() -> None:
    old = pa.table({"id": [1, 2, 3], "a": [1, 2, 3], "b": ["x", "y", "z"]})
    new = pa.table({"id": [1, 2, 4], "a": [1, 5, 3], "b": ["q", "q", "q"], "c": [1.5, 1.5, 1.5]})
    one, other = two(old, new, "id")
    for pair in (
        (one.select(["a"]), other.select(["a"])),
        (one.select(["a"]), other),
        (one, other.select(["a"])),
    ):
        found = Diff(*pair)
        stat = found.stat()
        assert (stat.added, stat.removed, stat.changed, bool(stat.schema)) == (1, 1, 1, False)
        assert sorted(map(str, found.rows()["columns"].to_pylist())) == ["['a']", "[]", "[]"]
        assert set(found.rows()["after"].type.names) == {"a"}
    assert Diff(one.select(["b"]), one.select(["b"])).stat().changed == 0
    assert not Diff(one.select(["b"]), one.select(["b"]))
    unlike = Diff(one.select(["a"]), other.select(["a", "c"]))
    assert unlike.schema.added == ("c",) and bool(unlike)
