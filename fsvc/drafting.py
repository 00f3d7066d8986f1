"""From tables to snapshots: the drafts of commits, and what a table would be called in any repository."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from fsvc.engine import branching, history
from fsvc.engine.committing import CommitDraft
from fsvc.engine.progress import Progress, silent
from fsvc.engine.store import Store
from fsvc.engine.writing import Written, write_snapshot
from fsvc.errors import InvalidName, InvalidUse
from fsvc.format import names
from fsvc.format.expectation import expected_of
from fsvc.format.manifest import Manifest

__all__ = ["Identified", "Keys", "draft", "identify"]

Keys = Mapping[str, "str | Sequence[str]"] | str | Sequence[str]
"""Columns, for all feature sets or by name."""


def draft(
    store: Store,
    data: Mapping[str, Any],
    branch: str,
    *,
    key: Keys | None,
    sort_by: Keys | None,
    tag: str | None,
    metadata: Mapping[str, str] | None,
    threads: int | None,
    progress: Progress,
) -> CommitDraft:
    """Write tables as snapshots of a commit to be; :meth:`fsvc.Repository.commit` says what all of it means."""
    names.check_ref_name(branch)
    if tag is not None:
        branching.refuse(store, "tags", tag)
    for pair in (metadata or {}).items():
        if not all(isinstance(text, str) for text in pair):
            raise InvalidUse("commit metadata are pairs of texts")
    made = CommitDraft(store, branch)
    try:
        known = history.head(store, branch)
        there = list(store.commit(known).feature_sets) if known else []
        for name in data:
            names.check_feature_set_name(name)
            _refuse_home(made, name)
        twins = names.case_twins(data, there)
        if twins is not None:
            raise InvalidUse(
                f"feature sets {twins[0]!r} and {twins[1]!r} differ only in case",
                hint="use one name or a clearer one",
            )
        for name, table in data.items():
            parent = made.parent_manifest(name)
            wanted = _of(key, name)
            columns = (parent.key if parent is not None else ()) if wanted is None else wanted
            order = _of(sort_by, name)
            written = _write(
                table, columns, order, made, parent=parent, threads=threads, progress=progress, name=name
            )
            made.add(name, written, {"sort_by": list(order)} if order else None)
    except BaseException:
        made.abandon()
        raise
    return made


def _refuse_home(draft: CommitDraft, name: str) -> None:
    """Raise InvalidName where a table would be put in the place of expectations."""
    owner = expected_of(name)
    if owner is None:
        return
    from fsvc.expectations.held import is_home

    there = draft.parent_manifest(name)
    if there is None or is_home(there):
        raise InvalidName(
            f"{name!r} is where the expectations of {owner!r} stand, and no name for a table",
            hint=f"they are changed by 'fsvc expect {owner}'; call the table otherwise",
        )


def _of(value: Keys | None, name: str) -> tuple[str, ...] | None:
    """What is said for one feature set: for it alone, or for all."""
    if isinstance(value, Mapping):
        value = value.get(name)
    if value is None:
        return None
    return (value,) if isinstance(value, str) else tuple(value)


def _write(
    table: Any,
    key: Sequence[str],
    sort_by: Sequence[str] | None,
    draft: CommitDraft | None,
    *,
    parent: Manifest | None,
    threads: int | None,
    progress: Progress,
    name: str,
) -> Written:
    from fsvc.sources import open_source, sort_source

    with open_source(table) as source:
        if sort_by:
            source = sort_source(source, sort_by)
        return write_snapshot(
            source.schema,
            source.batches(),
            key=key,
            sink=draft.sink if draft is not None else None,
            parent=parent,
            threads=threads,
            progress=progress,
            total_rows=source.num_rows,
            name=name,
        )


class Identified:
    """The identity that a table would have in any repository."""

    def __init__(self, written: Written) -> None:
        self.id = written.manifest.id
        self.schema = written.manifest.schema
        self.num_rows = written.manifest.num_rows
        self.key = written.manifest.key


def identify(
    table: Any,
    *,
    key: str | Sequence[str] = (),
    sort_by: str | Sequence[str] | None = None,
    threads: int | None = None,
    progress: Progress = silent,
) -> Identified:
    """The snapshot id of a table or file with this key, without a repository."""
    return Identified(
        _write(
            table,
            _of(key, "") or (),
            _of(sort_by, ""),
            None,
            parent=None,
            threads=threads,
            progress=progress,
            name="table",
        )
    )
