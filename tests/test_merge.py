"""Merges: they agree with a simple model of rows, tell every conflict, and keep the rules of commits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
import strategies
from edits import Pool, Rows, edited, pools, short_groups, start
from hypothesis import given
from hypothesis import strategies as st
from memory import memory_repository
from wholeness import assert_whole

from fsvc.engine import branching, history
from fsvc.errors import ConflictError, InvalidUse, MergeConflict, NotFound
from fsvc.repository import Repository

SEEDS = st.integers(0, 2**32 - 1)


def diverged(base: Any, ours: Any, theirs: Any, key: Any = ()) -> Repository:
    """A repository whose branches main and theirs have changed one feature set since they parted."""
    repository = memory_repository()
    repository.commit({"t": base}, key=key, message="base", threads=1)
    repository.branch("theirs")
    repository.commit({"t": theirs}, branch="theirs", message="theirs", threads=1)
    repository.commit({"t": ours}, message="ours", threads=1)
    return repository


# A model of merging, row by row ----------------------------------------------------------------------


def merged(
    pool: Pool, base: Rows, ours: Rows, theirs: Rows, strategy: str | None
) -> tuple[Rows, dict[int, tuple[str, set[int]]]]:
    """The merged rows, and what is in conflict: by key its kind and columns."""
    conflicts: dict[int, tuple[str, set[int]]] = {}
    columns = range(len(pool.fields))

    def differ(one: tuple[int, ...], other: tuple[int, ...]) -> set[int]:
        return {c for c in columns if not pool.equal(c, one[c], other[c])}

    cells: dict[int, tuple[int, ...] | None] = {}
    for key in {**ours, **theirs, **base}:
        old, one, other = base.get(key), ours.get(key), theirs.get(key)
        if old is None:
            if one is not None and other is not None:
                clash = differ(one, other)
                if clash:
                    conflicts[key] = ("added on both sides", clash)
                one = other if strategy == "theirs" else one
            cells[key] = one if one is not None else other
        elif one is None and other is None:
            cells[key] = None
        elif one is None:
            changed = differ(old, other)  # type: ignore[arg-type]
            if changed:
                conflicts[key] = ("removed by ours", changed)
            cells[key] = other if changed and strategy == "theirs" else None
        elif other is None:
            changed = differ(old, one)
            if changed:
                conflicts[key] = ("removed by theirs", changed)
            cells[key] = one if changed and strategy != "theirs" else None
        else:
            mine, his = differ(old, one), differ(old, other)
            clash = {c for c in mine & his if not pool.equal(c, one[c], other[c])}
            if clash:
                conflicts[key] = ("changed on both sides", clash)
            taken = (his - mine) | (clash if strategy == "theirs" else set())
            cells[key] = tuple(other[c] if c in taken else one[c] for c in columns)
    order, inserted, slots = list(ours), list(theirs), {}
    for place, key in enumerate(inserted):
        if key in ours or cells[key] is None:
            continue
        before = next((k for k in reversed(inserted[:place]) if k in ours), None)
        at = order.index(before) + 1 if before is not None else 0
        while at < len(order) and order[at] not in base and order[at] not in theirs:
            at += 1
        slots.setdefault(at, []).append(key)
    result: Rows = {}
    for at in range(len(order) + 1):
        for key in [*slots.get(at, []), *order[at : at + 1]]:
            row = cells[key]
            if row is not None:
                result[key] = row
    return result, conflicts


@given(pool=pools(), seed=SEEDS, strategy=st.sampled_from([None, "ours", "theirs"]))
def test_a_merge_agrees_with_a_model_of_rows(pool: Pool, seed: int, strategy: Any) -> None:
    random = np.random.default_rng(seed)
    columns = len(pool.fields)
    base = start(random, columns)
    ours, theirs = (edited(random, base, columns, reorder=bool(i)) for i in range(2))
    expected, conflicts = merged(pool, base, ours, theirs, strategy)
    with short_groups():
        repository = diverged(*(pool.table(rows, random) for rows in (base, ours, theirs)), pool.key_columns)
        head = repository.resolve("main")
        plan = repository.plan_merge("theirs", strategy=strategy)
        if conflicts and strategy is None and plan.conflict is not None:
            assert told(pool, plan.conflict) == {
                repr(key_bits(pool, key)): (kind, sorted(pool.fields[c].name for c in at))
                for key, (kind, at) in conflicts.items()
            }
            with pytest.raises(MergeConflict, match=f"{len(conflicts):,} row"):
                repository.merge("theirs")
            assert repository.resolve("main") == head
            return
        assert plan.conflict is None
        done = repository.merge("theirs", strategy=strategy)
        found = done.snapshot("t")
        # Where one side is the base it is taken as it is, order and all.
        trivial = pool.same(base, theirs) or pool.same(base, ours)
        wanted = pool.table((theirs if pool.same(base, ours) else ours) if trivial else expected)
        table = found.to_arrow()
        for name in wanted.column_names:
            assert strategies.bits(table[name]) == strategies.bits(wanted[name]), name
        assert repository.verify(deep=True).ok
        if plan.kind == "merge":
            assert done.parents == (head.id, repository.resolve("theirs").id)
            assert found.id == repository.commit({"t": found.to_arrow()}, message="again").snapshot("t").id


def key_bits(pool: Pool, key: int) -> Any:
    table = pool.table({key: (0,) * len(pool.fields)}).select(list(pool.key_columns))
    return [strategies.bits(column) for column in table.columns]


def told(pool: Pool, conflict: MergeConflict) -> dict[str, tuple[str, list[str]]]:
    """What a conflict's table says: by key the kind and the columns."""
    table = conflict.rows["t"]
    keys = table["key"].chunk(0)
    bits = [strategies.bits(keys.field(i)) for i in range(keys.type.num_fields)]
    return {
        repr([[column[i]] for column in bits]): (kind, sorted(names))
        for i, (kind, names) in enumerate(
            zip(table["conflict"].to_pylist(), table["columns"].to_pylist(), strict=True)
        )
    }


# Schemas ---------------------------------------------------------------------------------------------

BASE = pa.table(
    {
        "id": pa.array(range(50), pa.int64()),
        "a": pa.array([i / 4 for i in range(50)]),
        "b": pa.array([f"text {i}" for i in range(50)]),
        "n": pa.array(range(50), pa.int32()),
    }
)


def put(table: pa.Table, name: str, row: int, value: Any) -> pa.Table:
    """A table with another value in one cell."""
    at = table.schema.get_field_index(name)
    values = table[name].to_pylist()
    values[row] = value
    return table.set_column(at, table.schema.field(at), pa.array(values, table.schema.field(at).type))


def merge_tables(base: pa.Table, ours: pa.Table, theirs: pa.Table, **options: Any) -> pa.Table:
    repository = diverged(base, ours, theirs, "id")
    return repository.merge("theirs", **options).snapshot("t").to_arrow()


def test_columns_that_both_sides_added_are_all_there() -> None:
    ours = put(BASE, "a", 3, -1.0).append_column("mine", pa.array(range(50)))
    theirs = put(BASE, "b", 3, "new").add_column(2, "his", pa.array([f"h{i}" for i in range(50)]))
    found = merge_tables(BASE, ours, theirs)
    expected = put(ours, "b", 3, "new").add_column(2, "his", theirs["his"])
    assert found.equals(expected)


def test_rows_of_one_side_have_nulls_in_columns_of_the_other() -> None:
    row = pa.table({"id": [100], "a": [1.0], "b": ["x"], "n": pa.array([1], pa.int32())})
    ours = pa.concat_tables([BASE, row]).append_column("mine", pa.array(range(51)))
    theirs = pa.concat_tables([BASE, row.set_column(0, "id", pa.array([200]))])
    theirs = theirs.append_column("his", pa.array([True] * 51))
    found = merge_tables(BASE, ours, theirs)
    assert found["id"].to_pylist()[-2:] == [100, 200]
    assert found["mine"].to_pylist()[-2:] == [50, None]
    assert found["his"].to_pylist()[-3:] == [True, None, True]


def test_renames_drops_and_edits_of_both_sides_go_together() -> None:
    ours = put(BASE, "n", 7, 700).rename_columns(["id", "amount", "b", "n"])
    theirs = put(put(BASE, "a", 9, 9.9), "n", 8, 800).drop_columns("b")
    found = merge_tables(BASE, ours, theirs)
    expected = put(put(BASE, "n", 7, 700), "n", 8, 800)
    expected = put(expected, "a", 9, 9.9).drop_columns("b").rename_columns(["id", "amount", "n"])
    assert found.equals(expected)


def test_a_wider_type_of_one_side_takes_the_values_of_the_other() -> None:
    theirs = BASE.set_column(3, "n", BASE["n"].cast(pa.int64()))
    found = merge_tables(BASE, put(BASE, "n", 1, -5), put(theirs, "n", 2, 2**40))
    assert found.schema.field("n").type == pa.int64()
    assert found["n"].to_pylist()[:4] == [0, -5, 2**40, 3]


def test_metadata_is_merged_key_by_key() -> None:
    base = BASE.replace_schema_metadata({"a": "1", "b": "1"})
    ours = put(BASE, "n", 1, 5).replace_schema_metadata({"a": "2", "b": "1"})
    theirs = put(BASE, "n", 2, 5).replace_schema_metadata({"a": "1", "c": "3"})
    assert merge_tables(base, ours, theirs).schema.metadata == {b"a": b"2", b"c": b"3"}


def test_categories_of_both_sides_are_kept() -> None:
    def table(values: list[str], categories: list[str], **changed: int) -> pa.Table:
        indices = pa.array([categories.index(value) for value in values], pa.int8())
        return pa.table(
            {
                "id": pa.array(range(len(values))),
                "c": pa.DictionaryArray.from_arrays(indices, pa.array(categories)),
                "n": pa.array([changed.get("n", 0)] * len(values)),
            }
        )

    base = table(["x", "y", "x"], ["x", "y"])
    found = merge_tables(
        base, table(["x", "z", "x"], ["x", "y", "z"]), table(["x", "y", "w"], ["x", "y", "w"], n=1)
    )
    assert found["c"].to_pylist() == ["x", "z", "w"] and found["n"].to_pylist() == [1, 1, 1]
    assert found["c"].chunk(0).dictionary.to_pylist() == ["x", "y", "z", "w"]


@pytest.mark.parametrize(
    ("ours", "theirs", "says"),
    [
        (
            BASE.set_column(3, "n", BASE["n"].cast(pa.int64())),
            BASE.set_column(3, "n", BASE["n"].cast(pa.float64())),
            "the type of column 'n' was changed on both sides: to int64 by ours, to double by theirs",
        ),
        (
            BASE.rename_columns(["id", "x", "b", "n"]),
            BASE.rename_columns(["id", "y", "b", "n"]),
            "the name of column 'x' was changed on both sides",
        ),
        (
            BASE.drop_columns("a"),
            put(BASE, "a", 1, 5.5),
            "column 'a' was dropped by ours and changed by theirs",
        ),
        (
            put(BASE, "a", 1, 5.5),
            BASE.drop_columns("a"),
            "column 'a' was dropped by theirs and changed by ours",
        ),
        (
            BASE.append_column("x", pa.array([1] * 50)),
            BASE.append_column("x", pa.array(["1"] * 50)),
            "column 'x' was added as int64 by ours and as string by theirs",
        ),
        (
            BASE.rename_columns(["id", "x", "b", "n"]),
            put(BASE, "n", 1, 2).append_column("x", pa.array([1] * 50)),
            "two columns would be called 'x'",
        ),
        (
            BASE.replace_schema_metadata({"k": "1"}),
            BASE.replace_schema_metadata({"k": "2"}),
            "the metadata 'k' of the table was changed on both sides",
        ),
    ],
)
def test_schemas_that_do_not_go_together_are_refused_by_name(
    ours: pa.Table, theirs: pa.Table, says: str
) -> None:
    repository = diverged(BASE, ours, theirs, "id")
    head = repository.resolve()
    with pytest.raises(MergeConflict) as caught:
        repository.merge("theirs")
    assert says in caught.value.message and "'t'" in caught.value.message
    assert list(caught.value.reasons) == ["t"] and not caught.value.rows
    assert repository.resolve() == head


def test_a_strategy_settles_schemas_too() -> None:
    ours, theirs = BASE.drop_columns("a"), put(BASE, "a", 1, 5.5)
    assert "a" not in merge_tables(BASE, ours, theirs, strategy="ours").column_names
    assert merge_tables(BASE, ours, theirs, strategy="theirs")["a"].to_pylist() == theirs["a"].to_pylist()


# Keys ------------------------------------------------------------------------------------------------


def test_without_a_key_a_feature_set_is_merged_only_if_one_side_changed_it() -> None:
    base = {"x": [1, 2]}
    repository = diverged(base, {"x": [1, 2, 3]}, {"x": [0, 1, 2]})
    with pytest.raises(MergeConflict, match="has no key and was changed on both sides"):
        repository.merge("theirs")
    assert repository.merge("theirs", strategy="theirs").snapshot("t").to_arrow().to_pydict() == {
        "x": [0, 1, 2]
    }
    repository = diverged(base, base, {"x": [0]})
    repository.commit({"other": base}, message="so that branches part")
    done = repository.merge("theirs")
    assert done.snapshot("t").to_arrow().to_pydict() == {"x": [0]}


def test_different_keys_are_refused() -> None:
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="base")
    repository.branch("theirs")
    repository.commit({"t": put(BASE, "a", 1, 2.0)}, key="n", branch="theirs", message="theirs")
    repository.commit({"t": put(BASE, "a", 2, 2.0)}, message="ours")
    with pytest.raises(MergeConflict, match=r"different keys: base \(id\), ours \(id\), theirs \(n\)"):
        repository.merge("theirs")


# Graphs ----------------------------------------------------------------------------------------------


def test_a_branch_with_nothing_of_its_own_is_moved_forward() -> None:
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="base")
    repository.branch("theirs")
    theirs = repository.commit({"t": put(BASE, "a", 1, 5.0)}, branch="theirs", message="theirs")
    assert repository.plan_merge("theirs").kind == "fast-forward"
    assert repository.merge("theirs").id == theirs.id == repository.resolve("main").id
    assert repository.reflog()[0].reason == f"merge: forward to {theirs.id[:12]}"
    again = repository.merge("theirs")
    assert not again.created and again.id == theirs.id
    assert repository.plan_merge("theirs").kind == "up to date"


def test_a_merge_commit_can_be_asked_for() -> None:
    repository = memory_repository()
    base = repository.commit({"t": BASE}, key="id", message="base")
    repository.branch("theirs")
    theirs = repository.commit({"t": put(BASE, "a", 1, 5.0)}, branch="theirs", message="theirs")
    done = repository.merge("theirs", fast_forward=False, message="joined", author="bob")
    assert done.parents == (base.id, theirs.id) and done.message == "joined" and done.author == "bob"
    assert done.snapshot("t").id == theirs.snapshot("t").id
    assert done.versions == {"t": 2}


def test_moving_forward_never_gives_a_version_another_meaning() -> None:
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="base")
    repository.branch("dev")
    repository.commit({"t": put(BASE, "a", 1, 1.5)}, branch="dev", message="dev")
    second = repository.commit({"t": put(BASE, "a", 2, 2.5)}, message="main")
    # dev takes main in, so that main is an ancestor, but not along first parents.
    repository.merge("main", branch="dev")
    plan = repository.plan_merge("dev")
    assert plan.kind == "merge"
    done = repository.merge("dev")
    assert done.parents[0] == second.id and done.versions == {"t": 3}
    assert repository.snapshot("t@v2").commit.id == second.id


def test_versions_count_from_the_first_parent_and_feature_sets_come_along() -> None:
    repository = memory_repository()
    repository.commit({"t": BASE, "u": BASE}, key="id", message="base")
    repository.branch("theirs")
    for i in range(3):
        repository.commit({"t": put(BASE, "a", 1, float(i))}, branch="theirs", message=f"{i}")
    repository.commit({"new": BASE}, key="id", branch="theirs", message="new")
    repository.commit({"u": put(BASE, "a", 1, 1.0)}, message="ours")
    done = repository.merge("theirs")
    assert done.versions == {"t": 2, "u": 2, "new": 1}
    assert set(done.changes) == {"t", "new"}
    assert_whole(repository)


def criss_cross() -> tuple[Repository, str, str]:
    """Two branches that have merged each other: two merge bases."""
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="base")
    repository.branch("theirs")
    one = repository.commit({"t": put(BASE, "a", 1, 1.5)}, message="one").id
    other = repository.commit({"t": put(BASE, "b", 2, "two")}, branch="theirs", message="two").id
    repository.tag("one", one)
    repository.tag("two", other)
    repository.merge("two")
    repository.merge("one", branch="theirs")
    return repository, one, other


def test_after_a_criss_cross_merge_both_bases_are_heard() -> None:
    repository, one, other = criss_cross()
    ours = repository.snapshot("t").to_arrow()
    repository.commit({"t": put(ours, "n", 3, 333)}, message="ours")
    repository.commit({"t": put(ours, "n", 4, 444)}, branch="theirs", message="theirs")
    heads = [repository.resolve(name).id for name in ("main", "theirs")]
    assert history.merge_bases(repository.store, *heads) == sorted([one, other])
    done = repository.merge("theirs").snapshot("t").to_arrow()
    assert done.equals(put(put(ours, "n", 3, 333), "n", 4, 444))


def test_what_was_undone_does_not_come_back_through_a_criss_cross_merge() -> None:
    repository, _, other = criss_cross()
    ours = repository.snapshot("t").to_arrow()
    repository.commit({"t": put(ours, "n", 3, 333)}, message="ours")
    repository.commit({"t": put(ours, "b", 2, "text 2")}, branch="theirs", message="undone")
    with pytest.raises(MergeConflict, match="several merge bases"):
        repository.merge("theirs")
    done = repository.merge("theirs", base=other).snapshot("t").to_arrow()
    assert done["b"][2].as_py() == "text 2" and done["n"][3].as_py() == 333


def test_histories_without_a_common_commit_need_a_base() -> None:
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="one")
    repository.commit({"u": BASE}, key="id", message="other", branch="orphan")
    with pytest.raises(InvalidUse, match="no commit in common"):
        repository.merge("orphan")


def test_unknown_names_suggest_the_nearest() -> None:
    repository = diverged(BASE, BASE.slice(1), BASE.slice(0, 40), "id")
    with pytest.raises(NotFound) as caught:
        repository.merge("thiers")
    assert caught.value.hint is not None and "theirs" in caught.value.hint
    with pytest.raises(NotFound, match="'mian' has no commit"):
        repository.merge("theirs", branch="mian")


# Reverts and picks -----------------------------------------------------------------------------------


def test_a_revert_takes_back_one_commit_and_keeps_what_came_later() -> None:
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="base")
    first = put(BASE, "a", 1, 5.0).slice(1)
    middle = repository.commit({"t": first}, message="a mistake")
    repository.commit({"t": put(first, "n", 20, 999)}, message="later")
    done = repository.revert(middle.id)
    assert done.parents == (repository.resolve("~1").id,) and done.versions == {"t": 4}
    assert done.message == f"revert: a mistake\n\nThis takes back commit {middle.id}."
    assert done.snapshot("t").to_arrow().equals(put(BASE, "n", 21, 999))
    assert not repository.revert(middle.id).created


def test_a_revert_that_meets_later_changes_conflicts() -> None:
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="base")
    middle = repository.commit({"t": put(BASE, "a", 1, 5.0)}, message="a mistake")
    repository.commit({"t": put(BASE, "a", 1, 6.0)}, message="later")
    with pytest.raises(MergeConflict, match="id=1 changed on both sides: a"):
        repository.revert(middle.id)
    kept = repository.revert(middle.id, strategy="ours")
    assert not kept.created
    assert repository.revert(middle.id, strategy="theirs").snapshot("t").to_arrow().equals(BASE)


def test_what_cannot_be_reverted_is_said() -> None:
    repository = memory_repository()
    first = repository.commit({"t": BASE}, key="id", message="base")
    second = repository.commit({"u": BASE}, key="id", message="another")
    with pytest.raises(InvalidUse, match="is the first commit"):
        repository.revert(first.id)
    with pytest.raises(InvalidUse, match="added feature set 'u'"):
        repository.revert(second.id)
    repository.branch("theirs")
    repository.commit({"t": BASE.slice(1)}, branch="theirs", message="theirs")
    merge = repository.merge("theirs", fast_forward=False)
    with pytest.raises(InvalidUse, match="is a merge"):
        repository.revert(merge.id)
    with pytest.raises(InvalidUse, match="no parent 3"):
        repository.revert(merge.id, mainline=3)
    assert repository.revert(merge.id, mainline=1).snapshot("t").to_arrow().equals(BASE)


def test_a_picked_commit_brings_its_own_changes_only() -> None:
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="base")
    repository.branch("theirs")
    table = put(BASE, "a", 1, 5.0)
    repository.commit({"t": table}, branch="theirs", message="not this")
    wanted = repository.commit(
        {"t": put(table, "b", 2, "yes")}, branch="theirs", message="this", author="bob"
    )
    repository.commit({"t": put(BASE, "n", 3, 3000)}, message="ours")
    done = repository.cherry_pick(wanted.id)
    assert len(done.parents) == 1 and done.author == "bob"
    assert done.message == f"this\n\n(picked from commit {wanted.id})"
    assert done.snapshot("t").to_arrow().equals(put(put(BASE, "n", 3, 3000), "b", 2, "yes"))


# Sharing, races --------------------------------------------------------------------------------------


def test_unchanged_chunks_are_shared_with_both_sides() -> None:
    table = pa.table({"id": range(2000), **{f"x{i}": np.arange(2000) * i / 7 for i in range(6)}})
    ours, theirs = put(table, "x1", 100, -1.0), put(table, "x2", 1500, -1.0)
    with short_groups():
        repository = diverged(table, ours, theirs, "id")
        done = repository.merge("theirs")
    assert done.changes["t"]["new_chunks"] == 0
    assert done.changes["t"]["columns_changed"] == ["x2"]
    assert done.snapshot("t").to_arrow().equals(put(ours, "x2", 1500, -1.0))


def test_the_result_does_not_depend_on_threads() -> None:
    random = np.random.default_rng(3)
    pool = Pool("int", [pa.field("c0", pa.string())], [strategies.random_values(pa.string(), 12, random)])
    base = start(random, 1)
    ours, theirs = (edited(random, base, 1) for _ in range(2))
    with short_groups():
        found = set()
        for threads in (1, 2, 8):
            repository = diverged(*(pool.table(rows) for rows in (base, ours, theirs)), pool.key_columns)
            found.add(repository.merge("theirs", strategy="ours", threads=threads).snapshot("t").id)
    assert len(found) == 1


def test_a_merge_that_another_writer_overtakes_follows_the_rules_of_commits() -> None:
    repository = diverged(BASE, put(BASE, "a", 1, 5.0), put(BASE, "b", 1, "x"), "id")
    plan = repository.plan_merge("theirs")
    plan.preview()
    other = repository.commit({"other": BASE}, key="id", message="of another feature set")
    done = plan.publish()
    assert done.parents == (other.id, repository.resolve("theirs").id)
    assert done.versions == {"other": 1, "t": 3}
    repository = diverged(BASE, put(BASE, "a", 1, 5.0), put(BASE, "b", 1, "x"), "id")
    plan = repository.plan_merge("theirs")
    plan.preview()
    meanwhile = repository.commit({"t": BASE.slice(5)}, message="of the same")
    with pytest.raises(ConflictError):
        plan.publish()
    assert repository.resolve() == meanwhile


def test_moving_forward_tries_again_when_the_branch_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    repository = memory_repository()
    repository.commit({"t": BASE}, key="id", message="base")
    repository.branch("theirs")
    repository.commit({"t": put(BASE, "a", 1, 5.0)}, branch="theirs", message="theirs")
    forward = branching.forward

    def late(*arguments: Any, **options: Any) -> None:
        monkeypatch.setattr(branching, "forward", forward)
        repository.commit({"other": BASE}, key="id", message="meanwhile")
        forward(*arguments, **options)

    monkeypatch.setattr(branching, "forward", late)
    done = repository.merge("theirs")
    assert len(done.parents) == 2 and done.versions == {"other": 1, "t": 2}


def test_rows_that_moved_in_theirs_are_noted() -> None:
    repository = diverged(
        BASE, put(BASE, "a", 1, 5.0), pa.concat_tables([BASE.slice(25), BASE.slice(0, 25)]), "id"
    )
    plan = repository.plan_merge("theirs")
    assert plan.notes == ["t: theirs has its rows in another order; the order of ours is kept"]
    assert plan.publish().snapshot("t").to_arrow().equals(put(BASE, "a", 1, 5.0))


def test_conflicts_show_the_rows_of_all_sides() -> None:
    ours = put(put(BASE, "a", 1, 5.0), "b", 2, "mine").filter(pc.not_equal(BASE["id"], 4))
    theirs = put(put(BASE, "a", 1, 6.0), "n", 4, 44).filter(pc.not_equal(BASE["id"], 2))
    with pytest.raises(MergeConflict) as caught:
        diverged(BASE, ours, theirs, "id").merge("theirs")
    rows = caught.value.rows["t"].to_pylist()
    assert [(row["key"]["id"], row["conflict"], row["columns"]) for row in rows] == [
        (1, "changed on both sides", ["a"]),
        (2, "removed by theirs", ["b"]),
        (4, "removed by ours", ["n"]),
    ]
    assert [rows[0][side]["a"] for side in ("base", "ours", "theirs")] == [0.25, 5.0, 6.0]
    assert rows[1]["theirs"] is None and rows[1]["ours"]["b"] == "mine" and rows[2]["ours"] is None
