"""``fsvc show``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.addresses import find
from fsvc.cli.context import Context, command
from fsvc.cli.describing import (
    change_text,
    commit_document,
    decorations,
    refs_by_commit,
    short,
    snapshot_document,
    stored_text,
)
from fsvc.cli.expectations import verified_text
from fsvc.cli.output import Output, ago, clip, counted, human_size
from fsvc.cli.recipes import print_recipe
from fsvc.cli.values import as_json, as_text
from fsvc.errors import Corruption, UnknownFormat

if TYPE_CHECKING:
    from fsvc.engine.summary import ColumnSummary
    from fsvc.features.recipes import Recipe
    from fsvc.format.expectation import Expectation
    from fsvc.snapshot import Commit, Snapshot

__all__ = ["show"]

_WIDEST_VALUE = 24
_MOST_UNCHANGED = 20


@command(
    "show",
    examples="""
        fsvc show
        fsvc show main~2
        fsvc show customers@v3
    """,
)
@click.argument("what", metavar="[REV | NAME@REV]", required=False)
def show(context: Context, what: str | None) -> None:
    """Show a commit or a snapshot.

    REV shows the commit: who, when, why, and what changed. NAME@REV shows the snapshot: schema, key,
    rows, the recipe if a query made it, and every column's size, digest and statistics. Without an argument,
    the newest commit.
    """
    from fsvc.snapshot import Snapshot

    repository = context.repository()
    found = find(repository, what)
    if isinstance(found, Snapshot):
        from fsvc.features.recipes import Recipe

        snapshot, columns = found, found.column_summaries()
        try:
            recipe = Recipe.find(snapshot)
        except (Corruption, UnknownFormat) as error:
            recipe = None  # the rest can be shown
            context.output.warn(error.message)
        expected, verified = _expected(context.output, snapshot)
        context.output.show(
            {
                **snapshot_document(snapshot),
                "schema": [_column_document(column) for column in columns],
                "recipe": None if recipe is None else recipe.record.document(),
                "expectations": [one.document() for one in expected],
                "verified": verified,
            },
            lambda out: _print_snapshot(out, snapshot, columns, recipe, expected, verified),
        )
    else:
        commit, refs = found, refs_by_commit(repository).get(found.id, ())
        context.output.show(commit_document(commit, refs), lambda out: _print_commit(out, commit, refs))


def _expected(out: Output, snapshot: Snapshot) -> tuple[list[Expectation], Any]:
    """What is expected of the snapshot, and what its commit says came of it, None where it says nothing."""
    from fsvc.engine import history

    _, record = history.origin(snapshot.store, snapshot.commit.id, snapshot.name)
    try:
        expected = snapshot.expectations
    except UnknownFormat as error:
        out.warn(error.message)
        expected = []
    return expected, record.changes.get(snapshot.name, {}).get("expectations")


def _column_document(column: ColumnSummary) -> dict[str, Any]:
    return {
        "name": column.name,
        "type": column.type,
        "nullable": column.nullable,
        "digest": column.digest,
        "stored_bytes": column.stored,
        "nulls": column.nulls,
        "min": as_json(column.minimum),
        "max": as_json(column.maximum),
    }


def _print_snapshot(
    out: Output,
    snapshot: Snapshot,
    columns: Sequence[ColumnSummary],
    recipe: Recipe | None,
    expected: Sequence[Expectation],
    verified: Any,
) -> None:
    groups = len(snapshot.manifest.rows)
    stored = sum(column.stored for column in columns)
    out.line(out.styled(f"snapshot {snapshot.id}", fg="yellow"))
    out.line("name     ", snapshot.name, f" v{snapshot.version}")
    out.line("commit   ", snapshot.commit.id)
    out.line(
        f"size     {counted(snapshot.num_rows, 'row')} in {counted(groups, 'row group')},"
        f" {counted(len(columns), 'column')}, {human_size(stored)} stored"
    )
    out.line("key      ", ", ".join(snapshot.key) or "none")
    out.line("address  ", snapshot.uri)
    told = verified_text({"expectations": verified})
    if expected or told:
        out.line("expected ", counted(len(expected), "expectation"), "; when committed, ", told or "none")
    if recipe is not None:
        print_recipe(out, recipe.record)
    if not columns:
        return
    out.line()
    rows = [
        (
            column.name,
            column.type + ("" if column.nullable else " not null"),
            "" if column.nulls is None else f"{column.nulls:,}",
            *(
                "" if end is None else clip(as_text(end), _WIDEST_VALUE)
                for end in (column.minimum, column.maximum)
            ),
            human_size(column.stored),
            short(column.digest),
        )
        for column in columns
    ]
    out.table(["column", "type", "nulls", "min", "max", "stored", "digest"], rows, right=("nulls", "stored"))


def _print_commit(out: Output, commit: Commit, refs: Sequence[tuple[str, str]]) -> None:
    decoration = decorations(out, refs)
    out.line(out.styled(f"commit {commit.id}", fg="yellow"), " " if decoration else "", decoration)
    if commit.parents:
        out.line(
            "parent   " if len(commit.parents) == 1 else "parents  ", " ".join(map(short, commit.parents))
        )
    out.line("author   ", commit.author)
    out.line("time     ", commit.time, "  (", ago(commit.time), ")")
    out.line()
    for line in commit.message.splitlines():
        out.line("    ", line)
    for name, value in sorted(commit.metadata.items()):
        out.line("    ", name, "=", value)
    out.line()
    rows = []
    for name, change in sorted(commit.changes.items()):
        version = f"v{commit.versions[name]}" if name in commit.versions else ""
        count = change.get("rows")
        rows.append((name, version, f"{count:,}" if isinstance(count, int) else "", change_text(change)))
    out.table(["changed", "version", "rows", "what"], rows, right=("rows",))
    if rows:
        out.line(stored_text(commit.changes.values()))
    same = [
        f"{name} v{version}"
        for name, version in sorted(commit.versions.items())
        if name not in commit.changes
    ]
    if same:
        more = f" and {len(same) - _MOST_UNCHANGED:,} more" if len(same) > _MOST_UNCHANGED else ""
        out.line("unchanged: ", ", ".join(same[:_MOST_UNCHANGED]), more)
