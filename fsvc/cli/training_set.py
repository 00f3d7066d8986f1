"""``fsvc training-set``."""

from __future__ import annotations

import json
import os
import re
import warnings
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.checkout import Format, destination, write
from fsvc.cli.context import Context, command
from fsvc.cli.describing import commit_document, refs_by_commit, short, stored_text
from fsvc.cli.expectations import tell_warnings
from fsvc.cli.output import Output, counted, human_size
from fsvc.cli.parsing import NAMES
from fsvc.errors import Conflict, FsvcWarning, InvalidUse, UnreadableInput

if TYPE_CHECKING:
    from fsvc.features.lookups import Lookup
    from fsvc.features.splits import Split
    from fsvc.features.training import TrainingSet
    from fsvc.repository import Repository

__all__ = ["training_set"]

_AGE = re.compile(r"(\d+) *(d|days?|h|hours?|min|minutes?|s|seconds?|ms|us)")
_UNITS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds"}


@command(
    "training-set",
    examples="""
        fsvc training-set churn.toml --sql
        fsvc training-set churn.toml --name churn -m "training data of November"
        fsvc training-set churn.toml -o churn.parquet
        fsvc training-set churn.toml --describe
    """,
)
@click.argument("spec", metavar="FILE.toml")
@click.option("--name", metavar="NAME", help="Commit it as this feature set.")
@click.option("-m", "--message", metavar="TEXT", help="Why; for --name.")
@click.option("--key", type=NAMES, metavar="COL,COL", help="Its key columns; else the spine's.")
@click.option("--branch", metavar="BRANCH", help="The branch to commit on; else the current one.")
@click.option("--tag", metavar="TAG", help="Tag the commit.")
@click.option("--no-verify", is_flag=True, help="Do not look at expectations; the commit says so.")
@click.option("-o", "--output", "target", metavar="PATH", help="Write it to a file, and commit nothing.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["parquet", "arrow", "csv"]),
    help="The format of the file; left out, PATH's suffix says it.",
)
@click.option("--force", is_flag=True, help="Overwrite a file that is there.")
@click.option("--sql", "only_sql", is_flag=True, help="Print the query, and make nothing.")
@click.option("--describe", is_flag=True, help="Print, as JSON, what it takes to make it again and prove it.")
def training_set(
    context: Context,
    spec: str,
    name: str | None,
    message: str | None,
    key: tuple[str, ...] | None,
    branch: str | None,
    tag: str | None,
    no_verify: bool,
    target: str | None,
    kind: Format | None,
    force: bool,
    only_sql: bool,
    describe: bool,
) -> None:
    """Look features up for the rows of a spine.

    Features are taken as they were known at the time of each row. FILE.toml says what is wanted: "spine", an
    address or a file; "time", its column with the time of each row; "label"; a table [[lookup]] for each feature
    set, with "features", "on", and if it is by time "time", "max_age" (as "30 days"), "ties"; and [split] with
    "by", "hash" or "time", and "parts". See docs/training-sets.md.

    No row that is younger than the spine's is ever taken; what is not found is null; rows keep the spine's order.
    """
    if sum((name is not None, target is not None, only_sql, describe)) != 1:
        raise InvalidUse(
            "say what to do with it", hint="one of --name NAME -m TEXT, -o PATH, --sql and --describe"
        )
    if (name is None) != (message is None):
        raise InvalidUse("--name and -m go together", hint="fsvc training-set FILE.toml --name NAME -m TEXT")
    if target is not None and os.path.lexists(target) and not os.path.isdir(target) and not force:
        raise Conflict(f"{target} is there already", hint="--force overwrites it")
    repository = context.repository()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FsvcWarning)  # told here
        wanted = _read(repository, spec)
    for sentence in wanted.inexact:
        context.output.warn(sentence)
    if only_sql:
        context.output.show({"sql": wanted.sql}, lambda out: _print_sql(out, wanted.sql))
    elif describe:
        with context.progress("making") as progress:
            told = wanted.describe(progress=progress)
        click.echo(json.dumps(told, indent=2))
    elif name is not None:
        options = {"key": key, "branch": branch, "tag": tag, "verify": not no_verify}
        _commit(context, repository, wanted, name, message or "", **options)
    else:
        _write(context, wanted, target, kind)


def _print_sql(out: Output, sql: str) -> None:
    for line in sql.splitlines():
        out.line(line)


def _commit(
    context: Context, repository: Repository, wanted: TrainingSet, name: str, message: str, **options: Any
) -> None:
    with context.progress("committing") as progress, warnings.catch_warnings():
        warnings.simplefilter("ignore", FsvcWarning)  # told below
        made = wanted.commit(
            name,
            message=message,
            author=context.author(),
            time=context.time(),
            progress=progress,
            **options,
        )
    tell_warnings(context.output, made.reports)

    def people(out: Output) -> None:
        if not made.created:
            out.line("nothing changed: ", out.styled(short(made.id), fg="yellow"), " stands")
            return
        snapshot = made.snapshot(name)
        size = f"{counted(snapshot.num_rows, 'row')}, {counted(len(snapshot.schema), 'column')}"
        out.line(out.styled(short(made.id), fg="yellow"), "  ", message)
        out.line("  ", out.styled(name, bold=True), f" v{snapshot.version}  {size}")
        out.line("  ", stored_text(made.changes.values()))

    refs = refs_by_commit(repository).get(made.id, ())
    context.output.show({"created": made.created, **commit_document(made, refs)}, people)


def _write(context: Context, wanted: TrainingSet, target: str | None, kind: Format | None) -> None:
    with context.progress("making") as progress:
        made = wanted.snapshot(progress=progress)
    path, chosen = destination(made, target, kind)
    with context.progress("writing") as progress:
        write(made, path, chosen, None, None, progress)
    rows, size = made.num_rows, path.stat().st_size
    context.output.show(
        {"path": str(path), "format": chosen, "rows": rows, "bytes": size, "identity": made.id},
        lambda out: out.line(str(path), f": {counted(rows, 'row')}, {human_size(size)}"),
    )


# The file ------------------------------------------------------------------------------------------


def _read(repository: Repository, path: str) -> TrainingSet:
    """The training set that a file describes. Raises UnreadableInput, InvalidUse for what it does not know."""
    import tomllib

    try:
        spec = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        reason = (os.strerror(error.errno) if error.errno else str(error)).lower()
        raise UnreadableInput(f"{path} cannot be read: {reason}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UnreadableInput(f"{path} is not TOML: {error}") from None
    _known(spec, {"spine", "time", "label", "lookup", "split"}, path)
    spine = spec.get("spine")
    if not isinstance(spine, str):
        raise InvalidUse(f"{path} names no spine", hint='spine = "events@v3", or a file')
    lookups = spec.get("lookup", [])
    if not isinstance(lookups, list) or not all(isinstance(one, dict) for one in lookups):
        raise InvalidUse(f"a lookup of {path} is not a table", hint="begin each with [[lookup]]")
    return repository.training_set(
        Path(spine) if os.path.lexists(spine) else spine,
        [_lookup(one, path) for one in lookups],
        time=spec.get("time"),
        label=spec.get("label"),
        split=None if "split" not in spec else _split(spec["split"], path),
    )


def _known(table: Mapping[str, Any], names: set[str], path: str) -> None:
    for name in table:
        if name not in names:
            raise InvalidUse(f"{path} has an unknown {name!r}", hint=f"there are: {', '.join(sorted(names))}")


def _lookup(table: dict[str, Any], path: str) -> Lookup:
    from fsvc.features.lookups import Lookup

    _known(table, {"features", "on", "time", "columns", "prefix", "max_age", "ties", "time_as"}, path)
    for name in ("features", "on"):
        if name not in table:
            raise InvalidUse(f"a lookup of {path} has no {name!r}")
    age = table.get("max_age")
    return Lookup(**{**table, "max_age": _age(age) if isinstance(age, str) else age})


def _age(text: str) -> timedelta:
    found = _AGE.fullmatch(text.strip())
    if found is None:
        raise InvalidUse(f"{text!r} is no age", hint='write "30 days", "12 hours", "90 min" or "5 s"')
    number, unit = int(found[1]), found[2]
    named = {"ms": "milliseconds", "us": "microseconds"}.get(unit) or _UNITS[unit[0]]
    try:
        return timedelta(**{named: number})
    except OverflowError:
        raise InvalidUse(
            f"{text!r} is longer than any age", hint="leave max_age out where a row may be of any age"
        ) from None


def _split(table: Any, path: str) -> Split:
    from fsvc.features.splits import Split

    kind = table.get("by") if isinstance(table, dict) else None
    if kind == "hash":
        _known(table, {"by", "key", "parts", "seed", "into"}, path)
        options = {name: table[name] for name in ("parts", "seed", "into") if name in table}
        return Split.by_hash(table.get("key", ()), **options)
    if kind == "time":
        _known(table, {"by", "column", "parts", "into"}, path)
        parts = table.get("parts")
        if not isinstance(parts, list) or not all(isinstance(part, list) and part for part in parts):
            raise InvalidUse(
                f"the parts of the split of {path} are no list",
                hint='parts = [["train", 2026-06-01T00:00:00Z], ["test"]]',
            )
        ends = {part[0]: part[1] if len(part) > 1 else None for part in parts}
        options = {name: table[name] for name in ("column", "into") if name in table}
        return Split.by_time(ends, **options)
    raise InvalidUse(f"the split of {path} is by neither hash nor time", hint='by = "hash", or "time"')
