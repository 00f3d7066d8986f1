"""``fsvc expect``."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.addresses import find_snapshot
from fsvc.cli.commit import known_branch
from fsvc.cli.context import Context, command
from fsvc.cli.describing import commit_document, first_line, refs_by_commit, short
from fsvc.cli.exits import EXIT_DIFFERENCE
from fsvc.cli.expectations import print_report, words
from fsvc.cli.output import Output
from fsvc.cli.parsing import NAMES
from fsvc.errors import InvalidUse, UnreadableInput

if TYPE_CHECKING:
    from fsvc.format.expectation import Expectation
    from fsvc.snapshot import Commit, Snapshot

__all__ = ["expect"]


@command(
    "expect",
    examples="""
        fsvc expect customers
        fsvc expect customers --not-null balance --range balance=0..1e6
        fsvc expect customers --fresh updated_at=24h --drift all --warn
        fsvc expect customers --remove range:balance
        fsvc expect customers --from expectations.toml
        fsvc expect customers@v3 --check
        fsvc expect customers today.parquet --check
    """,
)
@click.argument("name", metavar="NAME[@REV]")
@click.argument("path", metavar="[PATH]", required=False)
@click.option(
    "--column", "columns", multiple=True, metavar="COL[=TYPE]", help="The column is there, as this type."
)
@click.option("--not-null", "not_null", multiple=True, metavar="COL[=SHARE]",
              help="No nulls; or in at most this share of the rows.")  # fmt: skip
@click.option("--unique", multiple=True, metavar="COL,COL", help="No two rows have the same values in these.")
@click.option("--range", "ranges", multiple=True, metavar="COL=LOW..HIGH",
              help="Numbers or times in a range; one end may be left out, '(0..1)' is an open one.")  # fmt: skip
@click.option("--values", multiple=True, metavar="COL=V,V", help="One of these values.")
@click.option("--match", multiple=True, metavar="COL=REGEX", help="Texts in which the expression is found.")
@click.option("--rows", metavar="LOW..HIGH", help="How many rows there are.")
@click.option("--fresh", multiple=True, metavar="COL=SPAN",
              help="The newest time is at most so old when it is committed: 24h, '7 days'.")  # fmt: skip
@click.option("--drift", multiple=True, metavar="COL,COL|all", help="No drift against the version before.")
@click.option("--threshold", "limits", multiple=True, metavar="METRIC=VALUE",
              help="From where on it is drift, as of 'fsvc drift'; for --drift.")  # fmt: skip
@click.option("--warn", is_flag=True, help="What is given here only warns, and stops no commit.")
@click.option("--from", "source", metavar="FILE", help="All that is expected, from a JSON or TOML file.")
@click.option(
    "--remove", multiple=True, metavar="EXPECTATION", help="No longer expect it; by its name, or all."
)
@click.option("--check", is_flag=True, help="Check NAME@REV, or the file PATH; end with 3 if it fails.")
@click.option("-m", "--message", metavar="TEXT", help="Why; left out, what changed.")
@click.option("--branch", metavar="BRANCH", help="The branch to commit on; else the current one.")
@click.option("--author", metavar="WHO", help='Who signs it: "Name <email>".')
def expect(
    context: Context,
    name: str,
    path: str | None,
    source: str | None,
    remove: tuple[str, ...],
    check: bool,
    message: str | None,
    branch: str | None,
    author: str | None,
    **given: Any,
) -> int:
    """Say what has to hold of a feature set, and check it.

    What is given is added, or takes the place of what has the same name: the kind and the columns, as range:balance.
    It is committed, and belongs to history like any table. From then on each commit that gives the feature set a new
    table is checked first, and stopped where something does not hold. One with --no-verify is not, and says so.

    With nothing but NAME, what is expected is shown; --json prints it in the form that --from reads.
    """
    new = _given(**given)
    changing = bool(new or remove or source is not None)
    if path is not None and not check:
        raise InvalidUse("a file is only checked", hint=f"fsvc expect {name} {path} --check")
    if check:
        if changing:
            raise InvalidUse("--check changes nothing", hint="change what is expected first, or afterwards")
        return _check(context, name, path)
    if not changing:
        if message is not None:
            raise InvalidUse("-m is for what is changed, and nothing is")
        snapshot = find_snapshot(context.repository(), name if branch is None else f"{name}@{branch}")
        _show(context, snapshot, snapshot.expectations)
        return 0
    owner, at, _ = name.partition("@")
    if at:
        raise InvalidUse("what is expected of an old version does not change", hint=f"fsvc expect {owner}")
    repository = context.repository()
    if branch is not None:
        known_branch(repository, branch)
    made = repository.expect(
        name,
        [*(_read(source) if source is not None else []), *new],
        remove=remove,
        replace=source is not None,
        message=message,
        author=context.author(author),
        time=context.time(),
        branch=branch,
    )
    refs = refs_by_commit(repository).get(made.id, ())
    snapshot = made.snapshot(name)
    document = {
        **_document(snapshot, snapshot.expectations),
        "created": made.created,
        **commit_document(made, refs),
    }
    context.output.show(document, lambda out: _made(out, made, snapshot))
    return 0


def _made(out: Output, made: Commit, snapshot: Snapshot) -> None:
    if not made.created:
        out.line("nothing changed: ", out.styled(short(made.id), fg="yellow"), " stands")
    else:
        out.line(out.styled(short(made.id), fg="yellow"), "  ", first_line(made.message))
    _table(out, snapshot, snapshot.expectations)


def _show(context: Context, snapshot: Snapshot, expectations: Sequence[Expectation]) -> None:
    context.output.show(_document(snapshot, expectations), lambda out: _table(out, snapshot, expectations))


def _document(snapshot: Snapshot, expectations: Sequence[Expectation]) -> dict[str, Any]:
    return {
        "feature_set": snapshot.name,
        "commit": snapshot.commit.id,
        "expectations": [one.document() for one in expectations],
    }


def _table(out: Output, snapshot: Snapshot, expectations: Sequence[Expectation]) -> None:
    if not expectations:
        out.note("nothing is expected of ", snapshot.name)
    rows = [(one.name, "warns" if one.severity == "warning" else "stops", words(one)) for one in expectations]
    out.table(["expectation", "commit", "what is expected"], rows)


def _check(context: Context, name: str, path: str | None) -> int:
    repository = context.repository()
    snapshot = find_snapshot(repository, name)
    with context.progress("checking") as progress:
        if path is None:
            report = snapshot.check(progress=progress)
        else:
            if not os.path.lexists(path) and not any(character in path for character in "*?["):
                raise UnreadableInput(f"there is no file {path}")
            held = repository.held(Path(path), snapshot, progress=progress)
            report = held.check(snapshot.expectations, time=context.time(), progress=progress)
    context.output.show(report.to_dict(), lambda out: print_report(out, report))
    return 0 if report.passed else EXIT_DIFFERENCE


# What is given ------------------------------------------------------------------------------------------------


def _read(path: str) -> list[Any]:
    """The expectations of a file. Raises UnreadableInput, InvalidUse."""
    import json
    import tomllib

    from fsvc.format.expectation import listed

    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
        raise UnreadableInput(f"{path} cannot be read: {reason}") from error
    except UnicodeDecodeError:
        raise UnreadableInput(f"{path} is no text in UTF-8") from None
    is_toml = Path(path).suffix.lower() == ".toml"
    try:
        found = tomllib.loads(text) if is_toml else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UnreadableInput(f"{path} is not {'TOML' if is_toml else 'JSON'}: {error}") from None
    try:
        return list(listed(found))
    except InvalidUse as error:
        raise InvalidUse(f"{path}: {error.message}", hint=error.hint) from None


def _given(
    *,
    columns: tuple[str, ...],
    not_null: tuple[str, ...],
    unique: tuple[str, ...],
    ranges: tuple[str, ...],
    values: tuple[str, ...],
    match: tuple[str, ...],
    rows: str | None,
    fresh: tuple[str, ...],
    drift: tuple[str, ...],
    limits: tuple[str, ...],
    warn: bool,
) -> list[dict[str, Any]]:
    """What the options say, as the documents of expectations."""
    found: list[dict[str, Any]] = []
    for text in columns:
        column, sign, kind = text.partition("=")
        found.append({"kind": "column", "column": column, **({"type": kind} if sign else {})})
    for text in not_null:
        column, sign, share = text.partition("=")
        found.append({"kind": "not_null", "column": column, **({"at_most": _share(share)} if sign else {})})
    found += [{"kind": "unique", "columns": list(NAMES.convert(text, None, None))} for text in unique]
    for text in ranges:
        column, span = _pair("--range", text, "LOW..HIGH")
        found.append({"kind": "range", "column": column, **_bounds(text, span)})
    for text in values:
        column, listed = _pair("--values", text, "V,V")
        found.append({"kind": "values", "column": column, "values": list(NAMES.convert(listed, None, None))})
    for text in match:
        column, pattern = _pair("--match", text, "REGEX")
        found.append({"kind": "match", "column": column, "pattern": pattern})
    if rows is not None:
        bounds = _bounds(rows, rows)
        try:
            found.append({"kind": "rows", **{term: int(bound) for term, bound in bounds.items()}})
        except ValueError:
            raise InvalidUse(
                f"--rows {rows!r} is no range of numbers", hint="write --rows 1..1000000"
            ) from None
    for text in fresh:
        column, age = _pair("--fresh", text, "24h")
        found.append({"kind": "fresh", "column": column, "within": age})
    thresholds = dict(_pair("--threshold", text, "0.1") for text in limits)
    for text in drift:
        chosen = {} if text == "all" else {"columns": list(NAMES.convert(text, None, None))}
        numbers = {metric: _limit(metric, limit) for metric, limit in thresholds.items()}
        found.append({"kind": "drift", **chosen, **({"thresholds": numbers} if numbers else {})})
    if limits and not drift:
        raise InvalidUse("--threshold is for --drift", hint="add --drift all")
    if warn and not found:
        raise InvalidUse("--warn is for what is given beside it")
    return [{**one, "severity": "warning"} if warn else one for one in found]


def _pair(option: str, text: str, example: str) -> tuple[str, str]:
    column, sign, rest = text.partition("=")
    if not sign or not column:
        raise InvalidUse(
            f"{option} {text!r} has no value", hint=f"write {option} {column or 'COL'}={example}"
        )
    return column, rest


def _bounds(text: str, bounds: str) -> dict[str, Any]:
    opened, closed = bounds.startswith("("), bounds.endswith(")")
    inner = bounds[bounds[:1] in ("(", "[") :]
    inner = inner[: len(inner) - (inner[-1:] in (")", "]"))]
    low, dots, high = inner.partition("..")
    if not dots:
        raise InvalidUse(f"{text!r} is no range", hint="write LOW..HIGH, LOW.. or ..HIGH")
    found = {"above" if opened else "min": low.strip(), "below" if closed else "max": high.strip()}
    return {term: bound for term, bound in found.items() if bound}


def _share(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InvalidUse(f"{text!r} is no share of rows", hint="write 0.05 for one in twenty") from None


def _limit(metric: str, text: str) -> float | None:
    try:
        return None if text == "none" else float(text)
    except ValueError:
        raise InvalidUse(f"the threshold {metric} is not a number: {text!r}") from None
