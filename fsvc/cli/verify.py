"""``fsvc verify``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fsvc.cli.context import Context, command
from fsvc.cli.exits import EXIT_CORRUPTION
from fsvc.cli.output import Output, counted, human_size

if TYPE_CHECKING:
    from fsvc.engine.verify import Report

__all__ = ["verify"]


@command(
    "verify",
    examples="""
        fsvc verify
        fsvc verify --deep
    """,
)
@click.option(
    "--deep", is_flag=True, help="Decode every chunk too, prove its digest, recompute its statistics."
)
def verify(context: Context, deep: bool) -> int:
    """Check that what is stored is whole and undamaged.

    Every ref, commit, manifest, index and pack is read, and every object's checksum computed. Ends with
    exit code 6 if anything is damaged or missing, and names each such thing and what it affects.
    """
    repository = context.repository()
    with context.progress("verifying") as progress:
        report = repository.verify(deep=deep, progress=progress)
    context.output.show(
        {
            "ok": report.ok,
            "deep": report.deep,
            "damages": [{**asdict(damage), "affects": list(damage.affects)} for damage in report.damages],
            "counts": asdict(report.counts),
        },
        lambda out: _print(out, report),
    )
    return 0 if report.ok else EXIT_CORRUPTION


def _print(out: Output, report: Report) -> None:
    for damage in report.damages:
        out.line(out.styled(f"{damage.kind} {damage.name} is {damage.problem}", fg="red", bold=True))
        out.line("  ", damage.detail)
        for affected in damage.affects:
            out.line("  affects ", affected)
    counts = report.counts
    out.line(
        "verified ",
        ", ".join(
            (
                counted(counts.commits, "commit"),
                counted(counts.manifests, "manifest"),
                counted(counts.ref_entries, "ref entry", "ref entries"),
                counted(counts.index_files, "index file"),
                f"{counted(counts.packs, 'pack')} with {counted(counts.objects, 'object')}",
            )
        ),
        f" ({human_size(counts.bytes)})",
    )
    if report.deep:
        out.line(f"proved {counted(counts.proven, 'chunk')} against their digests")
    unreferenced = [
        counted(number, noun)
        for number, noun in (
            (counts.unreferenced_commits, "commit"),
            (counts.unreferenced_manifests, "manifest"),
            (counts.unreferenced_packs, "pack"),
            (counts.unreferenced_objects, "object"),
        )
        if number
    ]
    if unreferenced:
        out.line("not referenced, which is no damage: ", ", ".join(unreferenced))
    if report.ok:
        out.line(out.styled("no damage found", fg="green"))
    else:
        out.line(
            out.styled(f"{counted(len(report.damages), 'thing')} damaged or missing", fg="red", bold=True)
        )
