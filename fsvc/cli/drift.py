"""``fsvc drift``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.addresses import find
from fsvc.cli.context import Context, command
from fsvc.cli.exits import EXIT_DIFFERENCE
from fsvc.cli.mlflow_access import MODEL_SCHEMES, talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import Output, counted
from fsvc.cli.parsing import NAMES
from fsvc.errors import InvalidUse, NotFound

if TYPE_CHECKING:
    from fsvc.drift import ColumnDrift, DriftReport
    from fsvc.engine.progress import Progress
    from fsvc.repository import Repository
    from fsvc.snapshot import Snapshot

__all__ = ["drift", "drift_options", "holding", "model_side", "print_report", "settings"]


def drift_options(function: Any) -> Any:
    """Add the options that say how drift is measured and judged, for :func:`settings`."""
    for option in (
        click.option("--exact/--binned", "exact", default=None,
                     help="Distances of numbers from all values, or from bins; else by the number of rows."),
        click.option("--bins", type=click.IntRange(2, 1000), default=10, show_default=True,
                     help="Bins of equal content for PSI and Jensen-Shannon."),
        click.option("--threshold", "given", multiple=True, metavar="METRIC=VALUE",
                     help="From where on psi, ks, js, wasserstein, nulls or unseen is drift, or none; repeatable."),
        click.option("--confidence", type=float, metavar="SHARE",
                     help="How sure it has to be that a finding is not chance; 0.999."),
        click.option("--columns", type=NAMES, metavar="COL,COL",
                     help="Compare these; else those of the model, else all but the key."),
    ):  # fmt: skip
        function = option(function)
    return function


def settings(
    columns: tuple[str, ...] | None,
    given: tuple[str, ...],
    confidence: float | None,
    bins: int,
    exact: bool | None,
) -> dict[str, Any]:
    """The arguments of :meth:`Repository.drift` that :func:`drift_options` stand for."""
    from fsvc.drift import parse_thresholds

    texts = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not sign:
            raise InvalidUse(f"--threshold {item!r} has no value", hint=f"write --threshold {item}=0.1")
        texts[name.strip()] = value.strip()
    if confidence is not None:
        texts["confidence"] = str(confidence)
    return {"columns": columns, "thresholds": parse_thresholds(texts), "bins": bins, "exact": exact}


@command(
    "drift",
    examples="""
        fsvc drift customers@v1 customers@v3
        fsvc drift v1 v3 customers --threshold psi=0.1 --fail-on drift
        fsvc drift customers@v3 today.parquet --format html -o drift.html
        fsvc drift models:/churn@champion --against main
    """,
)
@click.argument("words", metavar="A [B] [NAME]", nargs=-1, required=True)
@click.option("--against", metavar="REV", help="Compare what the model A was trained on with this revision.")
@drift_options
@click.option("--format", "kind", type=click.Choice(["text", "json", "html"]),
              help="The format; left out, PATH's suffix says it.")  # fmt: skip
@click.option("-o", "--output", "target", metavar="PATH", help="Write the report to this file.")
@click.option("--fail-on", type=click.Choice(["drift"]), help="End with 3 if there is drift.")
@tracking_uri_option
def drift(
    context: Context,
    words: tuple[str, ...],
    against: str | None,
    columns: tuple[str, ...] | None,
    given: tuple[str, ...],
    confidence: float | None,
    bins: int,
    exact: bool | None,
    kind: str | None,
    target: str | None,
    fail_on: str | None,
    tracking_uri: str | None,
) -> int:
    """Tell how the distributions of columns moved between versions.

    A and B are snapshots, NAME@REV or NAME, or revisions, for all feature sets that both have or the one of NAME; B
    may be a file that is not committed. With --against, A is the URI of a model, and what it was trained on is compared
    with a revision, or with NAME@REV.

    Drift is a distance above its threshold and above what chance does at so many rows, a column that is gone or of
    another type, or no rows at all. docs/drift.md says what is measured, and how.
    """
    options = settings(columns, given, confidence, bins, exact)
    form = _format(kind, target)
    with context.progress("comparing") as progress:
        if against is not None:
            if len(words) != 1:
                raise InvalidUse("--against compares one model", hint="fsvc drift MODEL_URI --against REV")
            before, after = model_side(context, words[0], against, tracking_uri)
            repository = holding(before)
            reports = {before.name: repository.drift(before, after, **options, progress=progress)}
        else:
            reports = _reports(context, words, options, progress)
    _show(context, reports, form, target)
    return EXIT_DIFFERENCE if fail_on and any(report.drifted for report in reports.values()) else 0


def model_side(
    context: Context, uri: str, against: str, tracking_uri: str | None
) -> tuple[Snapshot, Snapshot]:
    """What a model was trained on, and the same feature set (or NAME) at a revision."""
    with talking_to_mlflow(context, tracking_uri) as models:
        before: Snapshot = models.restore(uri, repository=context.repository_location)
    address = against if "@" in against else f"{before.name}@{against}"
    return before, holding(before).snapshot(address)


def holding(snapshot: Snapshot) -> Repository:
    """The repository that a snapshot is in."""
    from fsvc.repository import Repository

    return Repository(snapshot.store)


def _reports(
    context: Context, words: tuple[str, ...], options: Mapping[str, Any], progress: Progress
) -> dict[str, DriftReport]:
    if words[0].startswith(MODEL_SCHEMES):
        raise InvalidUse(
            "which data to compare the model's with is not said", hint=f"fsvc drift {words[0]} --against REV"
        )
    repository = context.repository()
    if len(words) == 3:
        sides = [f"{words[2]}@{word}" for word in words[:2]]
    elif len(words) == 2:
        sides = list(words)
    else:
        raise InvalidUse("drift is between two sides", hint="fsvc drift NAME@REV NAME@REV, or REV REV NAME")
    if any("@" in word for word in words[:2]) and len(words) == 3:
        raise InvalidUse("the feature set is named twice", hint=f"leave {words[2]!r} out")
    from fsvc.snapshot import Snapshot

    before = find(repository, sides[0])
    if isinstance(before, Snapshot):
        after = Path(sides[1]) if Path(sides[1]).exists() else _other(repository, before.name, sides[1])
        return {before.name: repository.drift(before, after, **options, progress=progress)}
    newer = repository.resolve(sides[1])
    shared = [name for name in sorted(before.versions) if name in newer.versions]
    if not shared:
        raise InvalidUse(f"{sides[0]} and {sides[1]} have no feature set in common")
    return {
        name: repository.drift(before.snapshot(name), newer.snapshot(name), **options, progress=progress)
        for name in shared
    }


def _other(repository: Repository, name: str, word: str) -> Snapshot:
    """The snapshot that is compared with one of ``name``: at a revision, or of another feature set."""
    if "@" in word:
        return repository.snapshot(word)
    try:
        return repository.snapshot(f"{name}@{word}")
    except NotFound:
        if word not in repository.resolve().versions:
            raise
        return repository.snapshot(word)


# How it is shown -----------------------------------------------------------------------------------


def _format(kind: str | None, target: str | None) -> str:
    if kind is not None:
        return kind
    if target is None:
        return "text"
    found = {".html": "html", ".htm": "html", ".json": "json", ".txt": "text"}.get(
        Path(target).suffix.lower()
    )
    if found is None:
        raise InvalidUse(f"{target!r} has no suffix that says a format", hint="--format html or json does")
    return found


def _show(context: Context, reports: Mapping[str, DriftReport], form: str, target: str | None) -> None:
    import json

    from fsvc.drift import document, html
    from fsvc.engine.replacing import replacing

    out = context.output
    if form == "text" and target is not None:
        raise InvalidUse("text is for the terminal", hint="write to a .html or .json file, or leave -o out")
    if target is not None:
        found = document(reports)
        text = html(reports) if form == "html" else json.dumps(found, indent=2) + "\n"
        with replacing(target) as partial:
            partial.write_text(text, encoding="utf-8")
        summary = {
            "drifted": found["drifted"],
            "drifted_columns": {name: list(report.drifted_columns) for name, report in reports.items()},
            "path": target,
        }
        out.show(summary, lambda out: _written(out, reports, target))
    elif form == "html" and not out.json:
        click.echo(html(reports), nl=False)
    elif form == "json" or out.json:
        out.document(document(reports))
    else:
        for report in reports.values():
            print_report(out, report)


def _written(out: Output, reports: Mapping[str, DriftReport], target: str) -> None:
    for name, report in reports.items():
        out.line(target, ": ", name, " ", _verdict(report))


def _verdict(report: DriftReport) -> str:
    if report.emptied:
        return "drifted: one side has no rows"
    parts = []
    if report.drifted_columns:
        parts.append(f"{len(report.drifted_columns)} of {counted(len(report.columns), 'column')}")
    if report.schema.drifted:
        parts.append("the schema")
    return "drifted: " + " and ".join(parts) if parts else "did not drift"


def print_report(out: Output, report: DriftReport) -> None:
    """Print a report for people: what drifted first, the other columns below."""
    before, after = report.before, report.after
    out.line(
        out.styled(before.feature_set, bold=True),
        f"  v{before.version} -> "
        f"{'' if after.feature_set == before.feature_set else after.feature_set + ' '}v{after.version}"
        f"  {before.rows:,} -> {counted(after.rows, 'row')}  ",
        out.styled(_verdict(report), fg="red" if report.drifted else "green"),
    )
    for name in report.schema.dropped:
        out.line("  gone   ", name)
    for name, old, new in report.schema.retyped:
        out.line("  retyped ", name, f": {old} -> {new}")
    for name in report.schema.added:
        out.line("  new    ", name, "  (not compared)")
    columns = sorted(report.columns, key=lambda column: not column.drifted)
    out.table(
        ["column", "psi", "js", "ks", "nulls", "state", "why"],
        [
            (
                column.name,
                *(_cell(column.metrics.get(metric)) for metric in ("psi", "js", "ks", "nulls")),
                _state(column),
                _why(column),
            )
            for column in columns
        ],
        right=("psi", "js", "ks", "nulls"),
    )


def _cell(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _state(column: ColumnDrift) -> str:
    if column.drifted:
        return "drift"
    if column.method in ("identical", "none"):
        return "identical" if column.method == "identical" else "not compared"
    return "moved, not judged" if column.findings else "stable"


def _why(column: ColumnDrift) -> str:
    parts = [f"{finding.metric} {finding.value:.3g} > {finding.limit:.3g}" for finding in column.findings]
    for word, named, many in (
        ("new", column.new, column.new_categories),
        ("gone", column.gone, column.gone_categories),
    ):
        if many:
            shown = ", ".join(value for value, _ in named[:3])
            parts.append(f"{word}: {shown}" + (f" and {many - 3:,} more" if many > 3 else ""))
    return "; ".join(parts)
