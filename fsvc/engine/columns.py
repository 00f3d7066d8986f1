"""Three-way merge of schemas: which columns a merged table has, of which types, and where their cells are.

A column is followed through renames by equal content. What one side changed of it (name, type, nullability,
metadata) is taken over; what both changed in different ways is a conflict, told by name, and so is a column
that one side dropped and the other changed. Columns keep the order of ours; one that theirs added comes after
the column that it follows in theirs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from fsvc.errors import Conflict
from fsvc.format.cells import converts, meaning

if TYPE_CHECKING:
    from fsvc.engine.diff import TableDiff
    from fsvc.engine.reading import SnapshotReader

__all__ = ["MergedColumn", "merge_columns", "merge_schema_metadata"]

_RENAME_HINT = "rename one of the two, commit, and merge again"


@dataclass(frozen=True, slots=True)
class MergedColumn:
    """A column of a merged table, and its positions in the three snapshots; None where it is not there."""

    field: pa.Field
    base: int | None
    ours: int | None
    theirs: int | None
    is_key: bool


def merge_columns(
    to_ours: TableDiff, to_theirs: TableDiff, strategy: Literal["ours", "theirs"] | None
) -> list[MergedColumn]:
    """The columns of the merge of two snapshots, from what differs between each and their base.

    Raises Conflict naming the column where both sides changed it in ways that do not go together.
    """
    return _Columns(to_ours, to_theirs, strategy).merged()


class _Columns:
    def __init__(self, to_ours: TableDiff, to_theirs: TableDiff, strategy: str | None) -> None:
        self._to_ours, self._to_theirs = to_ours, to_theirs
        self._strategy = strategy
        self._base = to_ours.before.manifest.schema
        self._ours = to_ours.after.manifest.schema
        self._theirs = to_theirs.after.manifest.schema
        self._key = to_ours.after.manifest.key
        # Of columns that were replaced nothing is left: they were dropped, and others added.
        self._in_ours = {p.before: p.after for p in to_ours.columns.pairs if p.comparable}
        self._in_theirs = {p.before: p.after for p in to_theirs.columns.pairs if p.comparable}

    def merged(self) -> list[MergedColumn]:
        from_ours = {there: here for here, there in self._in_ours.items()}
        from_theirs = {there: here for here, there in self._in_theirs.items()}
        fresh = {self._theirs.field(i).name: i for i in range(len(self._theirs)) if i not in from_theirs}
        columns: list[MergedColumn] = []
        for ours, field in enumerate(self._ours):
            base = from_ours.get(ours)
            if base is None:
                theirs = fresh.pop(field.name, None)
                if theirs is not None:
                    field = self._field(None, field, self._theirs.field(theirs))
                columns.append(self._column(field, None, ours, theirs))
            elif base in self._in_theirs:
                theirs = self._in_theirs[base]
                field = self._field(self._base.field(base), field, self._theirs.field(theirs))
                columns.append(self._column(field, base, ours, theirs))
            elif not self._dropped(base, self._to_ours, "theirs", "ours"):
                columns.append(self._column(field, base, ours, None))
        for theirs, field in enumerate(self._theirs):
            base = from_theirs.get(theirs)
            if (base is not None and base in self._in_ours) or (base is None and field.name not in fresh):
                continue
            if base is not None and self._dropped(base, self._to_theirs, "ours", "theirs"):
                continue
            self._insert(columns, self._column(field, base, None, theirs))
        self._check_names(columns)
        return columns

    def _column(
        self, field: pa.Field, base: int | None, ours: int | None, theirs: int | None
    ) -> MergedColumn:
        is_key = ours is not None and self._ours.field(ours).name in self._key
        return MergedColumn(field, base, ours, theirs, is_key)

    def _insert(self, columns: list[MergedColumn], column: MergedColumn) -> None:
        """Put a column of theirs behind the one that it follows there."""
        assert column.theirs is not None
        place, nearest = 0, -1
        for i, other in enumerate(columns):
            if other.theirs is not None and nearest < other.theirs < column.theirs:
                place, nearest = i + 1, other.theirs
        columns.insert(place, column)

    def _dropped(self, base: int, changer: TableDiff, dropper: str, name: str) -> bool:
        """Whether a column that one side dropped is gone: not so if the other changed it, which conflicts."""
        pair = next(p for p in changer.columns.pairs if p.before == base and p.comparable)
        old, new = self._base.field(base), changer.after.manifest.schema.field(pair.after)
        changed = not old.equals(new, check_metadata=True)
        if not changed:
            changed = any(
                p.before == base and flags.any()
                for p, flags in zip(changer.compared, changer.changes.cells, strict=True)
            )
        if not changed:
            return True
        if self._strategy is None:
            raise Conflict(
                f"column {old.name!r} was dropped by {dropper} and changed by {name}",
                hint="--strategy ours or theirs takes one side's way",
            )
        return self._strategy == dropper

    def _field(self, base: pa.Field | None, ours: pa.Field, theirs: pa.Field) -> pa.Field:
        """One field of three; without a base the two have to go together as they are."""
        if base is None and ours.type != theirs.type and self._strategy is None:
            raise Conflict(
                f"column {ours.name!r} was added as {ours.type} by ours and as {theirs.type} by theirs",
                hint=_RENAME_HINT,
            )
        what = f"column {ours.name!r}"
        name = self._one(base and base.name, ours.name, theirs.name, f"the name of {what}")
        kind = self._one(base and base.type, ours.type, theirs.type, f"the type of {what}")
        for side in (ours.type, theirs.type):
            if meaning(side) != meaning(kind) and not converts(side, kind):
                raise Conflict(
                    f"{what} is {ours.type} in ours and {theirs.type} in theirs: its values do not go together",
                    hint=_RENAME_HINT,
                )
        nullable = ours.nullable or theirs.nullable
        if base is not None:
            nullable = self._one(base.nullable, ours.nullable, theirs.nullable, f"nulls in {what}")
        metadata = _merge_metadata(
            {} if base is None else base.metadata, ours.metadata, theirs.metadata, self._strategy, what
        )
        return pa.field(name, kind, nullable, metadata)

    def _one(self, base: Any, ours: Any, theirs: Any, what: str) -> Any:
        return _choose(base, ours, theirs, self._strategy, what)

    def _check_names(self, columns: list[MergedColumn]) -> None:
        names = [column.field.name for column in columns]
        for name in names:
            known = max(self._ours.names.count(name), self._theirs.names.count(name))
            if names.count(name) > max(known, 1):
                raise Conflict(f"two columns would be called {name!r} after the merge", hint=_RENAME_HINT)


def merge_schema_metadata(
    base: SnapshotReader,
    ours: SnapshotReader,
    theirs: SnapshotReader,
    strategy: Literal["ours", "theirs"] | None,
) -> dict[bytes, bytes] | None:
    """The metadata of the merged schema, merged key by key."""
    old, one, other = (reader.manifest.schema.metadata for reader in (base, ours, theirs))
    return _merge_metadata(old, one, other, strategy, "the table") or None


def _merge_metadata(
    base: Mapping[bytes, bytes] | None,
    ours: Mapping[bytes, bytes] | None,
    theirs: Mapping[bytes, bytes] | None,
    strategy: str | None,
    what: str,
) -> dict[bytes, bytes]:
    old, one, other = base or {}, ours or {}, theirs or {}
    merged = {}
    for key in {**one, **other}:
        shown = key.decode("utf-8", "replace")
        value = _choose(
            old.get(key), one.get(key), other.get(key), strategy, f"the metadata {shown!r} of {what}"
        )
        if value is not None:
            merged[key] = value
    return merged


def _choose(base: Any, ours: Any, theirs: Any, strategy: str | None, what: str) -> Any:
    """What one side made of a thing, if the other left it or did the same."""
    if ours == theirs or theirs == base:
        return ours
    if ours == base:
        return theirs
    if strategy is None:
        raise Conflict(
            f"{what} was changed on both sides: to {_shown(ours)} by ours, to {_shown(theirs)} by theirs",
            hint="--strategy ours or theirs takes one side's way",
        )
    return ours if strategy == "ours" else theirs


def _shown(value: Any) -> str:
    if value is None:
        return "nothing"
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
    return text if len(text) <= 40 else f"{text[:39]}…"
