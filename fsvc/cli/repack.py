"""``fsvc repack``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import print_unfinished
from fsvc.cli.exits import EXIT_CORRUPTION
from fsvc.cli.output import Output, counted, human_size

if TYPE_CHECKING:
    from fsvc.engine.repack import Repacked

__all__ = ["repack"]


@command(
    "repack",
    examples="""
        fsvc repack --dry-run
        fsvc repack
        fsvc repack --grace 0
    """,
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be done, with an estimate of the bytes.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="HOURS",
    help="How long the packs that this run replaces stay for those who read them; 24 unless told."
    " 0 only where nobody else is at work.",
)
def repack(context: Context, dry_run: bool, grace: float | None) -> int:
    """Put small files together and free space.

    Small packs and index files become large ones. What is stored stays the same, bit for bit, and no id changes.
    Others may read and commit meanwhile. Old packs are not deleted at once: the next repack does it, once their
    grace is over. May be interrupted at any time.

    A pack that holds a damaged object is left as it is; then the exit code is 6.
    """
    repository = context.repository()
    with context.progress("repacking") as progress:
        done = repository.repack(
            grace=None if grace is None else grace * 3600, dry_run=dry_run, progress=progress
        )
    context.output.show({**asdict(done), "damaged": list(done.damaged)}, lambda out: _print(out, done))
    return EXIT_CORRUPTION if done.damaged else 0


def _print(out: Output, done: Repacked) -> None:
    would = "would be " if done.dry_run else ""
    out.line(f"packs       {done.packs_before:,} -> {'about ' if done.dry_run else ''}{done.packs_after:,}")
    out.line(f"index files {done.index_files_before:,} -> {done.index_files_after:,}")
    out.line(f"stored      {human_size(done.bytes_before)} -> {human_size(done.bytes_after)}")
    patches = (
        f", {counted(done.reformed, 'of them as a patch', 'of them as patches')}" if done.reformed else ""
    )
    out.line(f"{counted(done.rewritten, 'object')} {would}written anew{patches}")
    if done.freed_bytes:
        out.line(f"{human_size(done.freed_bytes)} freed")
    if done.waiting_bytes:
        out.line(
            f"{human_size(done.waiting_bytes)} in old packs are left for those who read them;"
            " a later 'fsvc repack' frees them"
        )
    print_unfinished(out, done.unfinished)
    for name in done.damaged:
        out.line(out.styled(f"pack {name} holds damaged objects and was left: see 'fsvc verify'", fg="red"))
