"""``fsvc diff``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import click

from fsvc.cli.addresses import find
from fsvc.cli.context import Context, command
from fsvc.cli.differences import (
    print_rows,
    print_schema,
    print_stat,
    rows_document,
    schema_document,
    stat_document,
)
from fsvc.cli.exits import EXIT_DIFFERENCE
from fsvc.cli.mlflow_access import MODEL_SCHEMES, talking_to_mlflow
from fsvc.cli.output import Output, counted
from fsvc.cli.parsing import NAMES
from fsvc.cli.tables import format_of, write_table
from fsvc.errors import InvalidUse, NotFound

if TYPE_CHECKING:
    from fsvc.diff import Diff
    from fsvc.engine.progress import Progress
    from fsvc.repository import Repository
    from fsvc.snapshot import Commit, Snapshot

__all__ = ["diff"]

_MOST_ROWS = 100
"""How many rows are printed for people unless told."""


@dataclass
class _Found:
    """What is compared: the differences by feature set, what each side is called, and sets of one side only."""

    diffs: dict[str, Diff] = field(default_factory=dict)
    sides: dict[str, tuple[str, str]] = field(default_factory=dict)
    added: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(any(self.diffs.values()) or self.added or self.removed or self.missing)


@command(
    "diff",
    examples="""
        fsvc diff
        fsvc diff customers@v1 customers@v2
        fsvc diff main~1 main --exit-code
        fsvc diff v1 v2 customers --rows --limit 20
        fsvc diff customers@v1 customers@v2 --rows -o changes.parquet
        fsvc diff models:/churn/2 models:/churn/3
    """,
)
@click.argument("words", metavar="[A] [B] [NAME]", nargs=-1)
@click.option("--stat", "what", flag_value="stat", default="stat", help="What changed, in numbers (default).")
@click.option("--schema", "what", flag_value="schema", help="Only how the schema changed; reads no data.")
@click.option("--rows", "what", flag_value="rows", help="Every row that was removed, added or changed.")
@click.option("--limit", type=click.IntRange(min=0), metavar="N",
              help=f"List N rows at most; for people {_MOST_ROWS} unless told.")  # fmt: skip
@click.option("--key", type=NAMES, metavar="COL,COL",
              help="Match rows by these columns; else by the key. '' matches by content.")  # fmt: skip
@click.option("--format", "kind", type=click.Choice(["text", "json", "csv", "parquet", "arrow"]),
              help="The format of --rows; left out, PATH's suffix says it.")  # fmt: skip
@click.option("-o", "--output", "target", metavar="PATH", help="Write the rows to this file.")
@click.option("--exit-code", "tell", is_flag=True, help="End with 3 if anything differs.")
def diff(
    context: Context,
    words: tuple[str, ...],
    what: str,
    limit: int | None,
    key: tuple[str, ...] | None,
    kind: str | None,
    target: str | None,
    tell: bool,
) -> int:
    """Compare two snapshots, two commits, or a commit and the working files.

    A and B are revisions, for all feature sets or the one of NAME; or snapshots, NAME@REV. B may be a
    file that is not committed, and both may be URIs of models (models:/NAME/VERSION), which stand for what
    these were trained on. With A alone, the working files are compared with it; without anything,
    with the current branch. Rows are matched by their key, without one by content, and only what differs
    is read.
    """
    if kind == "json":
        context.output.json = True
    if what != "rows" and (limit is not None or target is not None or kind not in (None, "text", "json")):
        raise InvalidUse("--limit, --format and -o are for rows", hint="add --rows")
    written = format_of(target, kind) if what == "rows" else "text"
    with context.progress("comparing") as progress:
        found = _found(context, words, key, progress)
        if written in ("csv", "parquet", "arrow"):
            _write(context, found, written, target, limit)
        else:
            _show(context, found, what, limit, target)
    return EXIT_DIFFERENCE if tell and found else 0


# What is meant -------------------------------------------------------------------------------------


def _found(context: Context, words: Sequence[str], key: tuple[str, ...] | None, progress: Progress) -> _Found:
    if len(words) > 3:
        raise InvalidUse("there are at most two sides and the name of a feature set")
    repository = context.repository()
    name, sides = _name(repository, words)
    options: dict[str, Any] = {"key": key, "progress": progress}
    before = _side(context, repository, sides[0], name) if sides else None
    if len(sides) < 2:
        return _working(context, before, name, options)
    after = _after(context, repository, sides[1], name, before)
    if _is_snapshot(before) and _is_snapshot(after) and all(side.startswith(MODEL_SCHEMES) for side in sides):
        before, after = _as_used(before, after), _as_used(after, before)
    result = _Found()
    if _is_snapshot(before):
        one = repository.diff(before, after, **options)
        result.diffs[before.name] = one
        other = str(after) if isinstance(after, Path) else _called(one.after)
        result.sides[before.name] = _called(one.before), other
        return result
    commits = repository.diff(before, after, **options)
    result.diffs = dict(commits)
    result.sides = {n: (_called(one.before), _called(one.after)) for n, one in commits.items()}
    result.added, result.removed = commits.added, commits.removed
    return result


def _called(snapshot: Snapshot) -> str:
    return f"v{snapshot.version}"


def _is_snapshot(side: Commit | Snapshot | Path | None) -> TypeGuard[Snapshot]:
    from fsvc.snapshot import Snapshot

    return isinstance(side, Snapshot)


def _name(repository: Repository, words: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """The feature set that is named at the end, if one is, and the sides."""
    if len(words) == 3:
        return words[2], words[:2]
    if words and "@" not in words[-1]:
        head = repository.head()
        known = head.versions if head is not None else {}
        refs = {*repository.branches(), *repository.tags()}
        if words[-1] in known and words[-1] not in refs and not any("@" in word for word in words):
            return words[-1], words[:-1]
    return None, words


def _side(context: Context, repository: Repository, text: str, name: str | None) -> Commit | Snapshot:
    if text.startswith(MODEL_SCHEMES):
        with talking_to_mlflow(context, None) as models:
            trained_on: Snapshot = models.restore(text, repository=repository)
        return trained_on
    if name is None:
        return find(repository, text)
    if "@" in text:
        raise InvalidUse(f"{text!r} names a feature set already", hint=f"leave {name!r} out")
    return repository.resolve(text, feature_set=name).snapshot(name)


def _as_used(model: Snapshot, other: Snapshot) -> Snapshot:
    """What a model was trained on, beside another model's: all columns are a choice too where the other chose some.

    What only one of them used is a difference between the two.
    """
    chose = model.columns is not None or other.columns is None
    return model if chose else model.select(model.schema.names)


def _after(
    context: Context, repository: Repository, text: str, name: str | None, before: Commit | Snapshot | None
) -> Commit | Snapshot | Path:
    """The second side, which may be a file where the first is a snapshot."""
    if _is_snapshot(before) and "@" not in text and os.path.lexists(text):
        return Path(text)
    return _side(context, repository, text, name)


def _working(
    context: Context, before: Commit | Snapshot | None, name: str | None, options: dict[str, Any]
) -> _Found:
    workspace = context.workspace()
    commit: Any = before
    if _is_snapshot(before):
        commit, name = before.commit, before.name
    result = _Found()
    for feature_set, (path, one) in workspace.diff(commit, name, **options).items():
        if one is None:
            result.missing[feature_set] = path
            continue
        result.diffs[feature_set] = one
        result.sides[feature_set] = _called(one.before), path
    return result


# How it is shown -----------------------------------------------------------------------------------


def _show(context: Context, found: _Found, what: str, limit: int | None, target: str | None) -> None:
    out = context.output
    if target is not None:
        import json

        document = _document(found, what, limit)
        Path(target).write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    elif out.json:
        out.document(_document(found, what, limit))
    else:
        _people(out, found, what, _MOST_ROWS if limit is None else limit)


def _document(found: _Found, what: str, limit: int | None) -> dict[str, Any]:
    sets: dict[str, Any] = {}
    for name, one in found.diffs.items():
        before, after = found.sides[name]
        document: dict[str, Any] = {"before": before, "after": after, "different": bool(one)}
        if what == "stat":
            document |= stat_document(one.stat())
        elif what == "schema":
            document["schema"] = schema_document(one.schema)
        else:
            document["rows"] = rows_document(one.rows(limit), one.schema)
        sets[name] = document
    return {
        "different": bool(found),
        "feature_sets": sets,
        "added": found.added,
        "removed": found.removed,
        "missing": found.missing,
    }


def _people(out: Output, found: _Found, what: str, limit: int) -> None:
    for name, one in found.diffs.items():
        before, after = found.sides[name]
        out.line(out.styled(name, bold=True), f"  {before} -> {after}")
        if not one:
            out.line("  the same")
        elif what == "stat":
            print_stat(out, one.stat())
        elif what == "schema":
            print_schema(out, one.schema)
            if not one.schema:
                out.line("  schema  the same")
        else:
            # One row more than is shown says whether there are more.
            rows = one.rows(limit + 1)
            print_rows(out, rows.slice(0, limit), one.schema)
            if rows.num_rows > limit:
                out.note("... more rows: --limit N lists more, -o PATH writes all")
            print_schema(out, one.schema)
    for name in found.added:
        out.line(out.styled(name, bold=True), "  added")
    for name in found.removed:
        out.line(out.styled(name, bold=True), "  removed")
    for name, path in found.missing.items():
        out.line(out.styled(name, bold=True), f"  its file {path} is missing")
    if not found and not found.diffs:
        out.note("nothing differs")


def _write(context: Context, found: _Found, kind: str, target: str | None, limit: int | None) -> None:
    """Write the rows of one feature set to a file, or as CSV to standard output."""
    if len(found.diffs) != 1:
        raise InvalidUse(
            f"rows of {counted(len(found.diffs), 'feature set')} cannot be one table"
            if found.diffs
            else "nothing differs: there is no table to write",
            hint="name one: fsvc diff A B NAME",
        )
    ((name, one),) = found.diffs.items()
    table = one.rows(limit)
    if target is not None and not Path(target).absolute().parent.is_dir():
        raise NotFound(f"there is no directory {Path(target).parent}")
    write_table(table, kind, target)
    if target is not None:
        context.output.show(
            {"name": name, "path": target, "format": kind, "rows": table.num_rows},
            lambda out: out.line(f"{target}: ", counted(table.num_rows, "row"), f" of {name}"),
        )
