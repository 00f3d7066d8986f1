"""``fsvc stats``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

from fsvc.cli.context import Context, command
from fsvc.cli.output import Output, counted, human_size

if TYPE_CHECKING:
    from fsvc.engine.stats import Stats

__all__ = ["stats"]


@command(
    "stats",
    examples="""
        fsvc stats
        fsvc stats --json
    """,
)
def stats(context: Context) -> None:
    """Count what is stored and what it takes.

    "full" is what all versions would take as one Parquet file each; "logical" the same before encoding
    and compression.
    """
    repository = context.repository()
    with context.progress("counting") as progress:
        found = repository.stats(progress=progress)
    context.output.show(
        {"repository": repository.location, "project": repository.project, **asdict(found)},
        lambda out: _print(out, repository.location, found),
    )


def _print(out: Output, location: str, found: Stats) -> None:
    out.line("repository  ", location)
    counts = (found.commits, found.branches, found.tags, found.pins)
    out.line("commits     {:,}  (branches {:,}, tags {:,}, pins {:,})".format(*counts))
    out.line(f"objects     {found.objects:,} in {counted(found.packs, 'pack')}")
    out.line(
        f"stored      {human_size(found.stored_bytes)}  (packs {human_size(found.pack_bytes)},"
        f" indexes {human_size(found.index_bytes)}, manifests {human_size(found.manifest_bytes)})"
    )
    out.line(f"full        {human_size(found.full_bytes)} as one Parquet file per version")
    out.line(f"logical     {human_size(found.logical_bytes)}")
    if found.feature_sets:
        out.line()
    out.table(
        ["name", "versions", "rows", "columns", "stored", "full", "logical"],
        [
            (
                name,
                f"{one.versions:,}",
                f"{one.rows:,}",
                f"{one.columns:,}",
                human_size(one.stored_bytes),
                human_size(one.full_bytes),
                human_size(one.logical_bytes),
            )
            for name, one in sorted(found.feature_sets.items())
        ],
        right=("versions", "rows", "columns", "stored", "full", "logical"),
    )
