"""``fsvc commit``."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import change_text, commit_document, first_line, refs_by_commit, short, stored_text
from fsvc.cli.expectations import tell_warnings
from fsvc.cli.output import Output
from fsvc.cli.parsing import NAMES
from fsvc.cli.recipes import named_paths, parameters, query_text
from fsvc.errors import InvalidName, InvalidUse, NotFound, StorageError
from fsvc.format import names

if TYPE_CHECKING:
    from fsvc.repository import Repository
    from fsvc.snapshot import Commit
    from fsvc.sources import Source
    from fsvc.workspace import Workspace

__all__ = ["commit", "known_branch"]

_PACKED = (".gz", ".zst")
_READ_AS = " was read as "
_MOST_COLUMNS = 8
_INSTEAD: dict[str, str | None] = {
    "--sort-by": "end it with ORDER BY",
    "--name": "the argument is the name: fsvc commit NAME --sql QUERY",
    "--dry-run": "'fsvc sql' shows what it gives",
    "--allow-empty": None,
}


@command(
    "commit",
    examples="""
        fsvc commit customers.parquet --key customer_id -m "nightly refresh"
        fsvc commit rates.csv 'customers=export/*.parquet' -m "both" --tag first
        fsvc commit customers.parquet --dry-run
        fsvc commit totals --sql totals.sql --key customer_id -m "totals"
        fsvc commit euros --sql euros.sql --table rates=rates.csv -m "in euros"
    """,
)
@click.argument("paths", metavar="[NAME=]PATH... | NAME", nargs=-1, required=True)
@click.option(
    "-m",
    "--message",
    "messages",
    multiple=True,
    metavar="TEXT",
    help="Why; given again, a further paragraph.",
)
@click.option("--name", metavar="NAME", help="The feature set, where one PATH is given.")
@click.option(
    "--key",
    type=NAMES,
    metavar="COL,COL",
    help="The key columns; left out, those of the version before. '' drops them.",
)
@click.option("--sort-by", type=NAMES, metavar="COL,COL", help="Sort the rows; else their order is kept.")
@click.option(
    "--sql", "query", metavar="FILE|QUERY", help="Commit the result of a query as feature set NAME."
)
@click.option(
    "--param",
    "values",
    multiple=True,
    metavar="[NAME=]VALUE",
    help="A value for the query, as of 'fsvc sql'.",
)
@click.option(
    "--table", "tables", multiple=True, metavar="NAME=PATH", help="A file that the query reads by this name."
)
@click.option("--time-zone", metavar="ZONE", help="The time zone of the query.  [default: UTC]")
@click.option("--branch", metavar="BRANCH", help="The branch to commit on; else the current one.")
@click.option("--tag", metavar="TAG", help="Tag the commit.")
@click.option(
    "--meta", "pairs", multiple=True, metavar="K=V", help="Metadata of the commit; may be repeated."
)
@click.option("--author", metavar="WHO", help='Who signs it: "Name <email>".')
@click.option("--no-verify", is_flag=True, help="Do not look at expectations; the commit says so.")
@click.option("--allow-empty", is_flag=True, help="Commit even if nothing changed.")
@click.option("--dry-run", is_flag=True, help="Say what would change, and commit nothing.")
@click.option("--threads", type=click.IntRange(min=1), metavar="N",
              help="How many threads work at once; on a query one, unless told.")  # fmt: skip
def commit(
    context: Context,
    paths: tuple[str, ...],
    messages: tuple[str, ...],
    name: str | None,
    key: tuple[str, ...] | None,
    sort_by: tuple[str, ...] | None,
    query: str | None,
    values: tuple[str, ...],
    tables: tuple[str, ...],
    time_zone: str | None,
    branch: str | None,
    tag: str | None,
    pairs: tuple[str, ...],
    author: str | None,
    no_verify: bool,
    allow_empty: bool,
    dry_run: bool,
    threads: int | None,
) -> None:
    """Commit tables from files, all of them or none.

    PATH is a Parquet, Arrow, CSV or JSON-lines file, a folder of them, or a glob. The feature set is
    called after the file, unless NAME= says otherwise. Hand over the whole table each time: only what
    changed is stored.

    Where something is expected of the feature set ('fsvc expect'), the new table is checked first, and nothing is
    committed where it does not hold.

    With --sql the one argument is the NAME of a feature set, which is the result of a query over others: those that
    it names, pinned, and files given by --table. It reads nothing else. The commit records the query and all
    that it read: see 'fsvc show', 'fsvc rebuild', 'fsvc apply' and 'fsvc lineage'.
    """
    message = "\n\n".join(text.strip() for text in messages).strip()
    if not message and not dry_run:
        raise InvalidUse("a commit needs a message", hint="say why with -m 'TEXT'")
    metadata = _metadata(pairs)
    signer = context.author(author)
    for what, text in (("message", message), ("author", signer), *(("metadata", pair) for pair in pairs)):
        _check_text(what, text)
    workspace = context.find_workspace()
    repository = context.repository()
    if branch is not None:
        known_branch(repository, branch)
    if query is not None:
        for given, option in (
            (sort_by is not None, "--sort-by"),
            (name is not None, "--name"),
            (dry_run, "--dry-run"),
            (allow_empty, "--allow-empty"),
        ):
            if given:
                raise InvalidUse(f"{option} is not for a query", hint=_INSTEAD[option])
        if len(paths) != 1:
            raise InvalidUse("a query makes one feature set", hint="fsvc commit NAME --sql QUERY -m TEXT")
        _commit_query(
            context,
            repository,
            paths[0],
            query_text(query),
            parameters(values),
            tables=named_paths(tables, "--table"),
            message=message,
            key=key,
            time_zone=time_zone or "UTC",
            threads=threads or 1,
            author=signer,
            time=context.time(),
            branch=branch,
            tag=tag,
            metadata=metadata,
            verify=not no_verify,
        )
        return
    if values or tables or time_zone is not None:
        raise InvalidUse("--param, --table and --time-zone are for a query", hint="add --sql QUERY")
    inputs = _inputs(paths, name, workspace)
    before = {table: workspace.stamp(path) for table, path in inputs.items()} if workspace is not None else {}
    options: dict[str, Any] = {
        "key": key,
        "sort_by": sort_by,
        "branch": branch,
        "tag": tag,
        "metadata": metadata,
    }
    with ExitStack() as stack:
        sources = {table: stack.enter_context(_open(path)) for table, path in inputs.items()}
        _tell_notes(context.output, inputs, sources)
        if dry_run:
            with context.progress("reading") as progress:
                options = {**options, "threads": threads, "progress": progress}
                _dry_run(context, repository, sources, options, verify=not no_verify)
            return
        with context.progress("committing") as progress:
            draft = repository.draft(sources, **options, threads=threads, progress=progress)
            made = repository.publish(
                draft,
                message=message,
                author=signer,
                time=context.time(),
                metadata=metadata,
                allow_empty=allow_empty,
                tag=tag,
                verify=not no_verify,
                progress=progress,
            )
    tell_warnings(context.output, made.reports)
    if workspace is not None and branch in (None, workspace.branch):
        try:
            workspace.record_all(
                (path, made.snapshot(table), before[table]) for table, path in inputs.items()
            )
        except StorageError as error:
            # The commit stands; only 'status' will call these files untracked.
            context.output.warn("the workspace could not note what was committed: ", error.message)
    refs = refs_by_commit(repository).get(made.id, ())
    document = {"created": made.created, **commit_document(made, refs)}
    context.output.show(document, lambda out: _print(out, made, branch or repository.current_branch, sources))


def _commit_query(
    context: Context, repository: Repository, name: str, query: str, values: Any, **options: Any
) -> None:
    from fsvc.features.recipes import commit_query

    with context.progress("committing") as progress:
        made, notes = commit_query(repository, name, query, values, progress=progress, **options)
    for sentence in notes:
        context.output.note(name, ": ", sentence)
    tell_warnings(context.output, made.reports)
    refs = refs_by_commit(repository).get(made.id, ())
    context.output.show(
        {"created": made.created, **commit_document(made, refs), "notes": notes},
        lambda out: _print(out, made, options["branch"] or repository.current_branch, (name,)),
    )


def known_branch(repository: Repository, branch: str) -> None:
    """Raise NotFound for a branch that is not there: a slip of the pen must not begin a history."""
    names.check_ref_name(branch)
    branches = repository.branches()
    if branches and branch not in branches and branch != repository.current_branch:
        near = names.nearest(branch, branches)
        raise NotFound(
            f"there is no branch {branch!r}",
            hint=f"did you mean {near[0]!r}?" if near else f"make it with 'fsvc branch {branch}'",
        )


def _print(out: Output, made: Commit, branch: str, tables: Collection[str]) -> None:
    if not made.created:
        out.line("nothing changed: ", out.styled(short(made.id), fg="yellow"), " stands")
        return
    out.line(out.styled(short(made.id), fg="yellow"), "  ", branch, "  ", first_line(made.message))
    for name, change in sorted(made.changes.items()):
        out.line("  ", out.styled(name, bold=True), f" v{made.versions[name]}  ", change_text(change))
    for name in sorted(set(tables) - set(made.changes)):
        out.line("  ", name, f" v{made.versions[name]}  unchanged")
    if made.changes:
        out.line("  ", stored_text(made.changes.values()))


def _dry_run(
    context: Context,
    repository: Repository,
    sources: Mapping[str, Source],
    options: dict[str, Any],
    *,
    verify: bool,
) -> None:
    """Read everything, in a repository over this one, and say what a commit would change, or why it would not."""
    from fsvc.engine.clock import timestamp
    from fsvc.expectations.gate import pass_gate

    scratch = repository.scratch()
    draft = scratch.draft(sources, **options)
    try:
        reports = pass_gate(draft, time=context.time() or timestamp(), verify=verify)
        planned = draft.preview()
    finally:
        draft.abandon()
    tell_warnings(context.output, reports)

    def people(out: Output) -> None:
        if not planned.changes:
            out.line("nothing would change")
        for name, change in sorted(planned.changes.items()):
            version = planned.feature_sets[name].version
            out.line("would commit ", out.styled(name, bold=True), f" v{version}  ", change_text(change))
        if planned.changes:
            out.line(stored_text(planned.changes.values()).replace("stored", "would be stored"))

    context.output.show(
        {
            "created": False,
            "dry_run": True,
            "parents": list(planned.parents),
            "versions": {name: value.version for name, value in sorted(planned.feature_sets.items())},
            "snapshots": {name: value.snapshot for name, value in sorted(planned.feature_sets.items())},
            "changes": {name: dict(change) for name, change in sorted(planned.changes.items())},
        },
        people,
    )


def _open(path: str) -> Source:
    from fsvc.sources import open_source

    return open_source(path)


def _tell_notes(out: Output, inputs: Mapping[str, str], sources: Mapping[str, Source]) -> None:
    """What reading the files found out: above all, as what types the columns of CSV and JSON were read."""
    from fsvc.query.exactness import seen_inexactly

    for name, source in sources.items():
        for sentence in seen_inexactly(source.schema):
            out.note(inputs[name], ": ", sentence)
        read_as = [note for note in source.notes if _READ_AS in note]
        if read_as:
            by_type: dict[str, list[str]] = {}
            for field in source.schema:
                by_type.setdefault(str(field.type), []).append(field.name)
            told = "; ".join(f"{kind}: {_listed(columns)}" for kind, columns in by_type.items())
            out.note(inputs[name], " was read as ", told)
        for note in source.notes:
            if note not in read_as:
                out.note(inputs[name], ": ", note)


def _listed(columns: Sequence[str]) -> str:
    shown = ", ".join(columns[:_MOST_COLUMNS])
    return shown if len(columns) <= _MOST_COLUMNS else f"{shown} and {len(columns) - _MOST_COLUMNS} more"


def _metadata(pairs: Sequence[str]) -> dict[str, str]:
    metadata: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise InvalidUse(f"{pair!r} is not metadata", hint="write --meta KEY=VALUE")
        if key in metadata:
            raise InvalidUse(f"the metadata {key!r} is given twice")
        metadata[key] = value
    return metadata


def _inputs(paths: Sequence[str], name: str | None, workspace: Workspace | None) -> dict[str, str]:
    """Feature sets and their paths, from ``PATH`` and ``NAME=PATH``; nothing is looked up but existence."""
    if name is not None and len(paths) > 1:
        raise InvalidUse("--name is for one path", hint="name each: NAME=PATH NAME=PATH")
    inputs: dict[str, str] = {}
    known = workspace.feature_sets_of(paths) if workspace is not None else [None] * len(paths)
    for text, tracked in zip(paths, known, strict=True):
        found, path = name, text
        prefix, equals, rest = text.partition("=")
        if found is None and equals and prefix and rest and not os.path.lexists(text) and "/" not in prefix:
            found, path = prefix, rest
        if path == "-":
            raise InvalidUse(
                "standard input cannot be committed: a table is read more than once",
                hint="write it to a file first",
            )
        if found is None:
            found = tracked or _name_of(path)
        _check_name(found, path, given=found == name or path != text)
        if found in inputs:
            raise InvalidUse(
                f"{inputs[found]} and {path} would both be feature set {found!r}", hint="name them: NAME=PATH"
            )
        inputs[found] = path
    return inputs


def _check_name(name: str, path: str, *, given: bool) -> None:
    """Refuse a name before any file is read. One that a file gave can be replaced: the hint says so."""
    try:
        names.check_feature_set_name(name)
    except InvalidName as error:
        hint = error.hint if given else f"choose another one: NAME={path}"
        raise InvalidName(error.message, hint=hint) from None


def _check_text(what: str, text: str | None) -> None:
    """Refuse what the shell handed over in another encoding than UTF-8."""
    try:
        (text or "").encode()
    except UnicodeEncodeError:
        raise InvalidUse(f"the {what} is not in UTF-8: {text!r}") from None


def _name_of(path: str) -> str:
    """The feature set that a file or folder is called after."""
    if any(character in path for character in "*?[") and not os.path.lexists(path):
        raise InvalidUse(f"the glob {path} gives no name", hint=f"name the feature set: NAME={path}")
    file = Path(os.path.abspath(path))
    if file.is_dir():
        return file.name
    stem = file.stem if file.suffix.lower() not in _PACKED else Path(file.stem).stem
    return stem
