"""``fsvc verify``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import print_unfinished
from fsvc.cli.exits import EXIT_CORRUPTION
from fsvc.cli.mlflow_access import talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import Output, counted, human_size
from fsvc.errors import InvalidUse

if TYPE_CHECKING:
    from fsvc.engine.repair import Repaired
    from fsvc.engine.verification import Report

__all__ = ["verify"]


@command(
    "verify",
    examples="""
        fsvc verify
        fsvc verify --deep
        fsvc verify --repair --from /backup/features
        fsvc verify models:/customer_churn_predictor@champion
        fsvc verify --repair --from customers-november.parquet
    """,
)
@click.argument("model", metavar="[MODEL_URI]", required=False)
@click.option(
    "--deep", is_flag=True, help="Decode every chunk too, prove its digest, recompute its statistics."
)
@click.option("--repair", is_flag=True, help="Restore what is damaged or lost, as far as that is possible.")
@click.option(
    "--from",
    "sources",
    metavar="OTHER",
    multiple=True,
    help="With --repair: another repository, or a file with the same table. Repeatable.",
)
@tracking_uri_option
def verify(
    context: Context,
    model: str | None,
    deep: bool,
    repair: bool,
    sources: tuple[str, ...],
    tracking_uri: str | None,
) -> int:
    """Check that what is stored is whole and undamaged.

    Every ref, commit, manifest, index and pack is read, and every object's checksum computed. Ends with
    exit code 6 if anything is damaged or missing, and names each such thing and what it affects.

    With a MODEL_URI, only what this model stands on is verified, always deeply: its metadata and pins against the
    commit, and the commit down to every bit.

    With --repair, what is damaged or lost is taken from OTHER where it proves to be the same, by its hash; index
    files are made anew from packs. What is replaced is moved to quarantine/ in the repository, never deleted. The
    exit code is 6 if anything stays damaged or lost.
    """
    if sources and not repair:
        raise InvalidUse("--from is where --repair takes things from", hint="add --repair")
    if model is not None:
        if repair:
            raise InvalidUse("--repair is for a whole repository", hint="leave out the model")
        return _verify_model(context, model, tracking_uri)
    repository = context.repository()
    if repair:
        with context.progress("repairing") as progress:
            repaired = repository.repair(*sources, deep=deep, progress=progress)
        context.output.show(
            {
                "restored": list(repaired.restored),
                "quarantined": list(repaired.quarantined),
                "whole": list(repaired.whole),
                "broken": list(repaired.broken),
                **_document(repaired.report),
            },
            lambda out: _print_repaired(out, repaired),
        )
        return 0 if repaired.ok else EXIT_CORRUPTION
    with context.progress("verifying") as progress:
        report = repository.verify(deep=deep, progress=progress)
    context.output.show(_document(report), lambda out: _print(out, report))
    return 0 if report.ok else EXIT_CORRUPTION


def _verify_model(context: Context, model: str, tracking_uri: str | None) -> int:
    with talking_to_mlflow(context, tracking_uri) as models, context.progress("verifying") as progress:
        reports = models.verify(model, repository=context.repository_location, progress=progress)
    ok = all(report.ok for report in reports.values())

    def people(out: Output) -> None:
        for role, report in reports.items():
            out.line(out.styled(f"{role}:", bold=True))
            _print(out, report)

    context.output.show(
        {
            "model": model,
            "ok": ok,
            "roles": {role: _document(report) for role, report in reports.items()},
        },
        people,
    )
    return 0 if ok else EXIT_CORRUPTION


def _document(report: Report) -> dict[str, Any]:
    return {
        "ok": report.ok,
        "deep": report.deep,
        "damages": [{**asdict(damage), "affects": list(damage.affects)} for damage in report.damages],
        "erased": [{**asdict(erased), "affects": list(erased.affects)} for erased in report.erased],
        "unfinished": [asdict(one) for one in report.unfinished],
        "counts": asdict(report.counts),
    }


def _print_repaired(out: Output, repaired: Repaired) -> None:
    for thing in repaired.restored:
        out.line(out.styled(f"restored {thing}", fg="green"))
    for key in repaired.quarantined:
        out.note("moved to ", key)
    _print(out, repaired.report)
    if repaired.broken:
        for snapshot in repaired.broken:
            out.line("not whole: ", snapshot)
        out.line(f"{counted(len(repaired.whole), 'snapshot')} whole, {len(repaired.broken)} not")
    else:
        out.line(f"all {counted(len(repaired.whole), 'snapshot')} whole")


def _print(out: Output, report: Report) -> None:
    for damage in report.damages:
        out.line(out.styled(f"{damage.kind} {damage.name} is {damage.problem}", fg="red", bold=True))
        out.line("  ", damage.detail)
        for affected in damage.affects:
            out.line("  affects ", affected)
    for erased in report.erased:
        out.line(erased.detail)
        for affected in erased.affects:
            out.line("  affects ", affected)
    print_unfinished(out, report.unfinished)
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
    if counts.expired_snapshots:
        out.line(f"not looked at, since expired: {counted(counts.expired_snapshots, 'snapshot')}")
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
