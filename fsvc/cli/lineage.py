"""``fsvc lineage``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.addresses import find_snapshot
from fsvc.cli.context import Context, command
from fsvc.cli.describing import first_line, short
from fsvc.cli.lineage_graph import graph_document, print_graph
from fsvc.cli.mlflow_access import MODEL_SCHEMES, talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import Output, ago, counted

if TYPE_CHECKING:
    from fsvc.mlflow.restoring import DataSource, ModelLineage

__all__ = ["lineage"]


@command(
    "lineage",
    examples="""
        fsvc lineage models:/customer_churn_predictor@champion
        fsvc lineage models:/customer_churn_predictor/3 --json
        fsvc lineage totals@v3
    """,
)
@click.argument("what", metavar="MODEL_URI | NAME[@REV]")
@tracking_uri_option
def lineage(context: Context, what: str, tracking_uri: str | None) -> None:
    """Show what a model was trained on, or a snapshot made from.

    Of a model: data, commits, code and environment. Only the model's MLmodel file and its run are read; the model is
    never loaded. A repository or commit that is not here is said so; what the model itself says is shown in any
    case.

    Of a snapshot: the snapshots and files that its recipe read, what these were made from, and so on; and what
    was made from it, models included, as far as branches, tags and pins reach. Nothing but commits is read.
    """
    if _is_model(what):
        with talking_to_mlflow(context, tracking_uri) as models:
            found = models.lineage(what, repository=context.repository_location)
        context.output.show(_document(found), lambda out: _print(out, found))
        return
    from fsvc.features.lineage import lineage as graph_of

    graph = graph_of(find_snapshot(context.repository(), what))
    context.output.show(graph_document(graph), lambda out: print_graph(out, graph))


def _is_model(what: str) -> bool:
    """Whether a text names a model: by its scheme, or as a path. A snapshot has neither."""
    return what.startswith(MODEL_SCHEMES) or "://" in what.partition("@")[0] or os.path.isdir(what)


def _document(found: ModelLineage) -> dict[str, Any]:
    return {
        "model": found.uri,
        "resolved": found.resolved,
        "model_id": found.model_id,
        "name": found.name,
        "version": found.version,
        "aliases": list(found.aliases),
        "run_id": found.run_id,
        "run": dict(found.run),
        "code": dict(found.code),
        "environment": dict(found.environment),
        "data": [
            {
                "role": source.role,
                **source.reference.document(),
                "author": source.commit.author if source.commit else None,
                "time": source.commit.time if source.commit else None,
                "message": source.commit.message if source.commit else None,
                "problem": source.problem,
            }
            for source in found.data
        ],
    }


def _print(out: Output, found: ModelLineage) -> None:
    aliases = f" ({', '.join('@' + alias for alias in found.aliases)})" if found.aliases else ""
    out.line(out.styled(f"model {found.resolved}", fg="yellow"), aliases)
    if found.model_id is not None:
        out.line("id        ", found.model_id)
    if found.run_id is not None:
        about = ", ".join(str(found.run[part]) for part in ("name", "user", "status") if found.run.get(part))
        out.line("run       ", found.run_id, f"  {about}" if about else "")
    for name, value in found.code.items():
        out.line(f"{name.replace('git_commit', 'git'):<10}", value)
    if found.environment:
        out.line("with      ", ", ".join(f"{name} {value}" for name, value in found.environment.items()))
    for source in found.data:
        out.line()
        _print_source(out, source)


def _print_source(out: Output, source: DataSource) -> None:
    reference = source.reference
    out.line(out.styled(source.role, bold=True), f"  {reference.feature_set} v{reference.version}")
    out.line("  commit    ", reference.commit)
    if source.commit is not None:
        commit = source.commit
        out.line("            ", f"{commit.author}, {ago(commit.time)}: {first_line(commit.message)}")
    out.line("  snapshot  ", reference.snapshot)
    columns = "all columns" if reference.columns is None else counted(len(reference.columns), "column")
    out.line("  used      ", counted(reference.rows, "row"), ", ", columns)
    if reference.columns is not None:
        out.line("            ", ", ".join(reference.columns))
    if source.problem is not None:
        out.warn(source.problem)
    else:
        out.line("  address   ", f"{reference.feature_set}@{short(reference.commit)}")
