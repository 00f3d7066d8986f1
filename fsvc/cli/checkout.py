"""``fsvc checkout``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import click

from fsvc.cli.addresses import find
from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.output import Output, human_size
from fsvc.cli.parsing import NAMES
from fsvc.errors import Conflict, FsvcError, InvalidUse

if TYPE_CHECKING:
    from fsvc.engine.progress import Progress
    from fsvc.snapshot import Snapshot

__all__ = ["Format", "checkout", "destination", "write"]

Format: TypeAlias = Literal["parquet", "arrow", "csv"]
"""What a table is written as."""


@command(
    "checkout",
    examples="""
        fsvc checkout customers@v3
        fsvc checkout 'customers@main{2026-11-01}' -o november.parquet
        fsvc checkout customers@v3 -o north.csv --where "region = 'north'"
        fsvc checkout main~2
    """,
)
@click.argument("what", metavar="[NAME@REV | REV]", required=False)
@click.option("-o", "--output", "target", metavar="PATH", help="The file to write, or the directory for it.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "arrow", "csv"]),
    help="The format; left out, PATH's suffix says it.",
)
@click.option("--columns", type=NAMES, metavar="COL,COL", help="Only these columns, in this order.")
@click.option("--where", metavar="SQL", help="Only rows for which this condition holds.")
@click.option("--force", is_flag=True, help="Overwrite files that hold something else.")
def checkout(
    context: Context,
    what: str | None,
    target: str | None,
    kind: Format | None,
    columns: tuple[str, ...] | None,
    where: str | None,
    force: bool,
) -> None:
    """Write a snapshot, or all at a revision, to files.

    NAME@REV is written to one file, NAME.parquet unless told otherwise; pages are copied as they are
    stored, every one checked. REV alone writes every feature set of it into the workspace; without an
    argument, those of the current branch. Nothing that differs is overwritten without --force.
    """
    from fsvc.snapshot import Commit

    one = target is not None or kind is not None or columns is not None or where is not None
    repository = context.repository()
    found = find(repository, what)
    if not isinstance(found, Commit):
        _checkout_one(context, found, target, kind, columns, where, force=force)
        return
    if one:
        raise InvalidUse(
            "-o, --format, --columns and --where are for one feature set",
            hint="name it: fsvc checkout NAME@REV",
        )
    workspace = context.workspace()
    with context.progress("writing") as progress:
        # A revision may have been found by a prefix, or moved meanwhile: this very commit is meant.
        done = workspace.checkout(found.id if what is not None else None, force=force, progress=progress)

    def people(out: Output) -> None:
        for path in done.written:
            out.line("wrote ", path)
        for path in done.removed:
            out.line("removed ", path)
        if not done.written and not done.removed:
            out.line("all files are as in ", short(found.id))

    context.output.show(
        {"commit": found.id, "written": list(done.written), "removed": list(done.removed)}, people
    )


def _checkout_one(
    context: Context,
    snapshot: Snapshot,
    target: str | None,
    kind: Format | None,
    columns: tuple[str, ...] | None,
    where: str | None,
    *,
    force: bool,
) -> None:
    path, kind = destination(snapshot, target, kind)
    whole = columns is None and where is None
    same = False
    with context.progress("writing") as progress:
        if os.path.lexists(path) and not force:
            same = whole and path.is_file() and _holds(path, snapshot, progress)
            if not same:
                raise Conflict(f"{path} is there and holds something else", hint="--force overwrites it")
        if not same:
            write(snapshot, path, kind, columns, where, progress)
    workspace = context.find_workspace()
    if whole and target is None and workspace is not None:
        relative = workspace.relative(path)
        own = relative is not None and workspace.path_of(snapshot.name) == workspace.directory / relative
        # A file that was there already does not take the place of the feature set's working file.
        if own or not same:
            workspace.record(path, snapshot, written=not same)
    size = path.stat().st_size
    context.output.show(
        {
            "name": snapshot.name,
            "version": snapshot.version,
            "snapshot": snapshot.id,
            "commit": snapshot.commit.id,
            "path": str(path),
            "format": kind,
            "bytes": size,
            "written": not same,
        },
        lambda out: out.line(
            str(path),
            f" has {snapshot.name} v{snapshot.version} already"
            if same
            else f": {snapshot.name} v{snapshot.version}, {human_size(size)}",
        ),
    )


def destination(snapshot: Snapshot, target: str | None, kind: Format | None) -> tuple[Path, Format]:
    """Where to write, and in which format: the one given, else the suffix's, else Parquet."""
    from fsvc.sources.paths import SUFFIXES

    if target == "-":
        raise InvalidUse("a table cannot be written to standard output", hint="name a file with -o")
    path = Path(target) if target is not None else Path()
    if target is None or path.is_dir():
        return path / f"{snapshot.name}.{kind or 'parquet'}", kind or "parquet"
    meant = SUFFIXES.get(path.suffix.lower())
    if kind is None and meant in (None, "json") and path.suffix:
        raise InvalidUse(
            f"{path.suffix!r} is no suffix that says a format", hint="--format parquet, arrow or csv does"
        )
    chosen: Format = kind or ("csv" if meant == "csv" else "arrow" if meant == "arrow" else "parquet")
    return path, chosen


def _holds(path: Path, snapshot: Snapshot, progress: Progress) -> bool:
    """Whether a file holds the very table of a snapshot already."""
    from fsvc.drafting import identify

    try:
        return identify(path, key=snapshot.key, progress=progress).id == snapshot.id
    except FsvcError:
        return False


def write(
    snapshot: Snapshot,
    path: Path,
    kind: str,
    columns: tuple[str, ...] | None,
    where: str | None,
    progress: Progress,
) -> None:
    """Write a snapshot to a file. Raises InvalidUse where the directory is not there."""
    if not path.parent.is_dir():
        raise InvalidUse(f"there is no directory {path.parent}", hint=f"mkdir -p {path.parent}")
    if kind == "csv":
        delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
        snapshot.write_csv(path, columns, where=where, delimiter=delimiter, progress=progress)
    elif kind == "arrow":
        stream = path.suffix.lower() == ".arrows"
        snapshot.write_arrow(path, columns, where=where, stream=stream, progress=progress)
    else:
        snapshot.write_parquet(path, columns, where=where, progress=progress)
