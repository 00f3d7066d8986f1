"""What ``merge``, ``revert`` and ``cherry-pick`` have in common: run a plan, and tell what came of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from fsvc.cli.context import Context
from fsvc.cli.describing import change_text, commit_document, first_line, refs_by_commit, short
from fsvc.cli.expectations import tell_warnings
from fsvc.cli.output import Output, clip, counted
from fsvc.cli.tables import write_table
from fsvc.cli.values import as_text
from fsvc.errors import Conflict, MergeConflict

if TYPE_CHECKING:
    from fsvc.engine.progress import Progress
    from fsvc.merging import MergePlan
    from fsvc.repository import Repository
    from fsvc.snapshot import Commit
    from fsvc.workspace import Rewritten

__all__ = ["Plan", "merging_options", "replay", "replaying_options", "run"]

Plan = Callable[["Repository", "Progress"], "MergePlan"]
"""Plans a merge on a repository."""

_MOST_CONFLICTS = 10
_WIDEST_CELL = 32


def merging_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The options that all of these commands take."""
    for option in reversed(
        (
            click.option("-m", "--message", "messages", multiple=True, metavar="TEXT",
                         help="Why; given again, a further paragraph."),
            click.option("--strategy", type=click.Choice(["ours", "theirs"]),
                         help="Settle conflicts by taking one side: the branch's, or what is put on it."),
            click.option("--conflicts", "folder", metavar="DIR",
                         help="Write rows in conflict to DIR, a Parquet file for each feature set."),
            click.option("--dry-run", is_flag=True, help="Say what would happen, and do nothing."),
            click.option("--author", metavar="WHO", help='Who signs it: "Name <email>".'),
            click.option("--no-verify", is_flag=True,
                         help="Do not look at expectations; the commit says so."),
            click.option("-f", "--force", is_flag=True,
                         help="Give up changed and untracked files that are in the way."),
        )
    ):  # fmt: skip
        function = option(function)
    return function


def replaying_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """What the commands take that put one commit's changes, or their opposite, on the current branch."""
    mainline = click.option("--mainline", type=click.IntRange(min=1), metavar="N",
                            help="The parent of a merge against which its changes are meant, from 1.")  # fmt: skip
    return click.argument("revision", metavar="REV")(merging_options(mainline(function)))


def replay(
    context: Context,
    kind: Literal["revert", "cherry-pick"],
    revision: str,
    strategy: Literal["ours", "theirs"] | None,
    mainline: int | None,
    **options: Any,
) -> None:
    """Run the plan of one commit's changes, with what :func:`replaying_options` gives."""

    def make(repository: Repository, progress: Progress) -> MergePlan:
        plan = repository.plan_revert if kind == "revert" else repository.plan_cherry_pick
        return plan(revision, mainline=mainline, strategy=strategy, progress=progress)

    run(context, make, **options)


def run(
    context: Context,
    make: Plan,
    *,
    messages: tuple[str, ...],
    folder: str | None,
    dry_run: bool,
    author: str | None,
    no_verify: bool,
    force: bool,
) -> None:
    """Plan, and publish unless only the plan is wanted; working files follow."""
    with context.progress("merging") as progress:
        if dry_run:
            _dry_run(context, make, folder, progress, verify=not no_verify)
            return
        done, files, plan = _publish(
            context, make, messages, folder, author, progress, force=force, verify=not no_verify
        )
    tell_warnings(context.output, done.reports)
    refs = refs_by_commit(context.repository()).get(done.id, ())
    document = {
        "kind": plan.kind,
        "created": done.created and plan.kind not in ("fast-forward", "up to date"),
        "bases": [base.id for base in plan.bases],
        "notes": plan.notes,
        "written": list(files.written) if files is not None else [],
        "removed": list(files.removed) if files is not None else [],
        **commit_document(done, refs),
    }
    context.output.show(document, lambda out: _print(out, plan, done, files))


def _publish(
    context: Context,
    make: Plan,
    messages: tuple[str, ...],
    folder: str | None,
    author: str | None,
    progress: Progress,
    *,
    force: bool,
    verify: bool,
) -> tuple[Commit, Rewritten | None, MergePlan]:
    message = "\n\n".join(text.strip() for text in messages).strip() or None
    signer = context.author(author)
    fixed = context.time()
    plans: list[MergePlan] = []

    def planned(repository: Repository) -> MergePlan:
        plans.append(make(repository, progress))
        return plans[-1]

    def publish(plan: MergePlan) -> Commit:
        who = author or (plan.theirs.author if plan.kind == "cherry-pick" else signer)
        options: dict[str, Any] = {} if fixed is None else {"time": lambda: fixed}
        return plan.publish(message=message, author=who, verify=verify, progress=progress, **options)

    workspace = context.find_workspace()
    try:
        if workspace is not None:
            files = workspace.merge(planned, publish, force=force, progress=progress)
            assert files.commit is not None
            return publish_result(plans[-1], files.commit), files, plans[-1]
        plan = planned(context.repository())
        try:
            return publish(plan), None, plan
        except BaseException:
            plan.abandon()
            raise
    except MergeConflict as error:
        _tell(context, error, folder)
        raise


def publish_result(plan: MergePlan, commit: Commit) -> Commit:
    """The commit that came of a plan; one that was there before was not created."""
    if commit.id in (plan.ours.id, plan.theirs.id):
        commit.created = False
    return commit


def _dry_run(context: Context, make: Plan, folder: str | None, progress: Progress, *, verify: bool) -> None:
    """Plan in a repository over this one, so that nothing of it is ever written to it."""
    plan = make(context.repository().scratch(), progress)
    try:
        conflict = plan.conflict
        if conflict is not None:
            _tell(context, conflict, folder)
            raise conflict
        reports = plan.check(time=context.time(), verify=verify, progress=progress)
        record = plan.preview()
    finally:
        plan.abandon()
    tell_warnings(context.output, reports)
    changes = {} if plan.kind == "up to date" else record.changes

    def people(out: Output) -> None:
        if plan.kind == "up to date":
            out.line("nothing to do: ", short(plan.theirs.id), f" is in {plan.branch} already")
        elif plan.kind == "fast-forward":
            out.line(f"would move {plan.branch} forward to ", short(plan.theirs.id))
        elif not changes:
            out.line(f"would change nothing on {plan.branch}")
        for name, change in sorted(changes.items() if plan.kind != "fast-forward" else ()):
            version = record.feature_sets[name].version
            out.line("would commit ", out.styled(name, bold=True), f" v{version}  ", change_text(change))
        for note in plan.notes:
            out.note(note)

    context.output.show(
        {
            "kind": plan.kind,
            "dry_run": True,
            "bases": [base.id for base in plan.bases],
            "notes": plan.notes,
            "versions": {name: value.version for name, value in sorted(record.feature_sets.items())},
            "snapshots": {name: value.snapshot for name, value in sorted(record.feature_sets.items())},
            "changes": {name: dict(change) for name, change in sorted(changes.items())},
        },
        people,
    )


def _print(out: Output, plan: MergePlan, done: Commit, files: Rewritten | None) -> None:
    if plan.kind == "up to date":
        out.line("nothing to do: ", short(plan.theirs.id), f" is in {plan.branch} already")
    elif plan.kind == "fast-forward":
        out.line(f"moved {plan.branch} forward to ", out.styled(short(done.id), fg="yellow"))
    elif not done.created:
        out.line("nothing changed: ", out.styled(short(done.id), fg="yellow"), " stands")
    else:
        out.line(out.styled(short(done.id), fg="yellow"), "  ", plan.branch, "  ", first_line(done.message))
        for name, change in sorted(done.changes.items()):
            out.line("  ", out.styled(name, bold=True), f" v{done.versions[name]}  ", change_text(change))
    for path in files.written if files is not None else ():
        out.line("wrote ", path)
    for note in plan.notes:
        out.note(note)


def _tell(context: Context, error: MergeConflict, folder: str | None) -> None:
    """List what conflicts: for people on stderr, and as files where they are asked for."""
    out = context.output
    if folder is not None:
        place = Path(folder)
        if place.exists() and not place.is_dir():
            raise Conflict(f"{place} is a file", hint="--conflicts names a directory")
        place.mkdir(parents=True, exist_ok=True)
    for name, table in error.rows.items():
        if folder is not None:
            write_table(table, "parquet", str(Path(folder) / f"{name}.parquet"))
            out.note(f"{Path(folder) / name}.parquet: ", counted(table.num_rows, "row"), " in conflict")
        elif not out.json:
            _list(out, name, table)


def _list(out: Output, name: str, table: Any) -> None:
    from fsvc.cli.differences import structs

    few = table.slice(0, _MOST_CONFLICTS)
    sides = {side: structs(few[side]) for side in ("key", "base", "ours", "theirs")}
    words = zip(few["conflict"].to_pylist(), few["columns"].to_pylist(), strict=True)
    out.note(out.styled(name, bold=True), ": ", counted(table.num_rows, "row"), " in conflict")
    for number, (conflict, columns) in enumerate(words):
        key = ", ".join(f"{column}={_cell(value)}" for column, value in sides["key"][number].items())
        out.note("  ", key, "  ", conflict)
        for column in columns:
            told = [
                f"{side} {_cell(row[column])}"
                for side in ("base", "ours", "theirs")
                if (row := sides[side][number]) is not None and column in row
            ]
            out.note("    ", column, ": ", ", ".join(told))
    if table.num_rows > _MOST_CONFLICTS:
        out.note(f"  ... and {table.num_rows - _MOST_CONFLICTS:,} more: --conflicts DIR writes all of them")


def _cell(value: Any) -> str:
    return clip(as_text(value), _WIDEST_CELL)
