"""``fsvc purge``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.keys import KEY_HELP, key_options
from fsvc.cli.output import Output, counted, human_size
from fsvc.errors import InvalidUse

if TYPE_CHECKING:
    from fsvc.engine.erasing import Purged

__all__ = ["purge"]

_MOST_SHOWN = 20


@command(
    "purge",
    examples="""
        fsvc purge customers --key 17 --key 42 --dry-run
        fsvc purge customers --key 17 --key 42 --reason "request 118"
        fsvc purge customers --where "mail = 'a@b.c'" --reason "..." --yes
        fsvc purge customers --finish
    """,
)
@click.argument("name", metavar="NAME")
@click.option("--key", "keys", metavar="VALUE[,VALUE]", multiple=True, help=f"{KEY_HELP} Repeatable.")
@click.option(
    "--where",
    metavar="CONDITION",
    help="Rows for which a condition in SQL holds in any version; by key they are found in all.",
)
@click.option(
    "--finish", is_flag=True, help="Name no rows: finish what was interrupted. 'fsvc verify' tells of it."
)
@click.option(
    "--reason", metavar="TEXT", help="Why. Kept for ever, and told to whoever reads what was erased."
)
@click.option("--dry-run", is_flag=True, help="Only tell what would be lost.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def purge(
    context: Context,
    name: str,
    keys: tuple[str, ...],
    where: str | None,
    finish: bool,
    reason: str | None,
    dry_run: bool,
    yes: bool,
) -> None:
    """Erase rows from all versions of a feature set, for good.

    First commit a version without these rows: as long as a branch holds them, nothing is erased. Then this finds
    them in all other versions, tells what will be lost, and asks for the name. Whole row groups go: in the
    versions that have them, all rows of these groups cannot be read any more, and models that were trained on them
    cannot be restored. Their ids, messages and numbers stay. There is no way back.

    Everything else stays as it is, bit for bit. Copies elsewhere are not reached: files that were checked out, clones,
    backups, artifacts of models. Interrupted, it is finished by running it again, or by --finish, which needs no
    rows; until then these may still be on the disk.
    """
    given = [key_options(key) for key in keys]
    ranges = [one["between"] for one in given if "between" in one]
    if len(ranges) > 1:
        raise InvalidUse("one range at a time", hint="run it once for each")
    options: dict[str, Any] = {
        "keys": [one["key"] for one in given if "key" in one],
        "between": ranges[0] if ranges else None,
        "where": where,
        "finish": finish,
    }
    if finish and reason is not None:
        raise InvalidUse("what is finished has a reason already", hint="leave out --reason")
    if not (dry_run or finish) and not (reason or "").strip():
        raise InvalidUse("an erasure needs a reason", hint="add --reason TEXT, or --dry-run to look first")
    repository = context.repository()
    asking = not yes and not dry_run
    if asking and (context.output.json or not sys.stdin.isatty()):
        raise InvalidUse(
            "nobody is there to be asked, so nothing is erased",
            hint="look with --dry-run, then say --yes",
        )
    if dry_run or asking:
        with context.progress("searching") as progress:
            planned = repository.purge(name, **options, progress=progress)
        if dry_run:
            context.output.show(_document(planned), lambda out: _print_plan(out, planned, finish))
            return
        _print_plan(context.output, planned, finish)
        if not (planned.packs or planned.quarantined or planned.unfinished):
            return
        # What a branch holds is refused in any case: nobody need be asked.
        answer = None if planned.heads else click.prompt(f"type {name} to erase this for good", default="")
        if answer not in (None, name):
            raise InvalidUse("that is not its name, so nothing was erased")
    with context.progress("erasing") as progress:
        done = repository.purge(name, **options, reason=reason or "", delete=True, progress=progress)

    def people(out: Output) -> None:
        if yes:
            _print_plan(out, done, finish)
        if done.record is not None:
            out.line(f"erased; record {done.record[:12]}")
        out.line(f"{counted(done.rewritten, 'object')} written anew, {human_size(done.freed_bytes)} freed")

    context.output.show(_document(done), people)


def _document(done: Purged) -> dict[str, Any]:
    return asdict(done)


def _print_plan(out: Output, done: Purged, finish: bool) -> None:
    """What is lost, plainly."""
    verb = "lost" if done.deleted else "would be lost"
    for earlier in done.unfinished:
        finishes = "finished" if done.deleted else "would finish"
        out.line(f"{finishes} the purge of {earlier.feature_set} of {earlier.time[:10]}: {earlier.reason}")
    if finish and not (done.affected or done.unfinished):
        out.line("no purge is unfinished")
    elif not done.affected and not finish:
        out.line(f"no version of {done.feature_set} holds such rows")
    elif done.affected:
        total = done.whole + sum(one.feature_set == done.feature_set for one in done.affected)
        out.line(
            f"{counted(done.objects, 'chunk')} of {counted(len(done.affected), 'snapshot')} {verb};"
            f" {done.whole:,} of {counted(total, 'snapshot')} of {done.feature_set} stay whole"
        )
        out.table(
            ["feature set", "version", "commit", "row groups", "rows", "columns that stay there"],
            [
                (
                    one.feature_set,
                    f"v{one.version}",
                    short(one.commit),
                    f"{one.lost_groups:,} of {one.groups:,}",
                    f"{one.lost_rows:,} of {one.rows:,}",
                    ", ".join(one.kept),
                )
                for one in done.affected
            ],
        )
        for one in done.affected:
            for column in one.lists:
                out.line(
                    f"{one.feature_set}@{short(one.commit)}: the categories of {column} {verb}, and so all its rows"
                )
        for title, names in (
            ("commits", [short(commit) for commit in done.commits]),
            ("tags", done.tags),
            ("models", done.models),
        ):
            if names:
                more = len(names) - _MOST_SHOWN
                shown = ", ".join(names[:_MOST_SHOWN]) + (f" and {more} more" if more > 0 else "")
                out.line(f"{title} that cannot be read whole any more: {shown}")
    if done.packs:
        when = "written" if done.deleted else "to be written"
        out.line(f"packs {when} anew, with what versions name alone: {done.packs:,}")
    for snapshot in done.unsearched:
        out.line(f"not searched, since it lacks the columns: {snapshot}")
    if done.quarantined:
        out.line(f"{counted(done.quarantined, 'file')} in quarantine {verb}")
    for head in done.heads:
        out.line(out.styled(f"{head} still holds such rows: commit without them first", fg="red"))
