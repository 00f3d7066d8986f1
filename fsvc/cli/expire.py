"""``fsvc expire``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.output import Output, ago, counted
from fsvc.errors import InvalidUse

if TYPE_CHECKING:
    from fsvc.engine.expiring import Expiring

__all__ = ["expire"]


def _keep(word: str, what: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(
        f"--keep-{word}", word, type=click.IntRange(min=0), default=0, metavar="N", help=f"Keep {what}."
    )


@command(
    "expire",
    examples="""
        fsvc expire --keep-last 10 --keep-daily 14 --keep-monthly 12
        fsvc expire customers --keep-within 90 --delete
        fsvc expire --undo 3f7c2a91
    """,
)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@_keep("last", "the newest N versions")
@click.option(
    "--keep-within",
    "within",
    type=click.FloatRange(min=0),
    default=0,
    metavar="DAYS",
    help="Keep versions of the last DAYS days.",
)
@_keep("daily", "the newest version of each of the newest N days that have any")
@_keep("weekly", "the same for weeks")
@_keep("monthly", "the same for months")
@_keep("yearly", "the same for years")
@click.option("--delete", is_flag=True, help="Let the others expire. Without it they are only listed.")
@click.option("--dry-run", is_flag=True, help="Only list them. That is so unless --delete is given.")
@click.option("--undo", metavar="RECORD", help="Take an expiry back, as far as its data are still there.")
def expire(
    context: Context,
    names: tuple[str, ...],
    last: int,
    within: float,
    daily: int,
    weekly: int,
    monthly: int,
    yearly: int,
    delete: bool,
    dry_run: bool,
    undo: str | None,
) -> None:
    """Let the data of old versions expire, by a policy.

    Of all feature sets, or of those named. A version stays if any --keep option says so, and always while a
    branch, a tag or the pin of a model stands on it, or a working file here holds it. The others are written down as
    expired, and 'fsvc gc --delete' frees what only they needed. Their commits stay, with ids, messages and numbers;
    to read them says when they expired. Before their data are freed, --undo takes it back.
    """
    if dry_run and delete:
        raise InvalidUse("--dry-run and --delete contradict each other")
    repository = context.repository()
    if undo is not None:
        if names or last or within or daily or weekly or monthly or yearly or delete:
            raise InvalidUse("--undo takes the id of a record, and nothing else")
        done = repository.take_back(undo)
        context.output.show(asdict(done), lambda out: _print_undone(out, done))
        return
    workspace = context.find_workspace()
    with context.progress("looking") as progress:
        done = repository.expire(
            *names,
            last=last,
            within=within,
            daily=daily,
            weekly=weekly,
            monthly=monthly,
            yearly=yearly,
            snapshots=frozenset() if workspace is None else workspace.snapshots(),
            delete=delete,
            progress=progress,
        )
    context.output.show(asdict(done), lambda out: _print(out, done))


def _table(out: Output, done: Expiring) -> None:
    out.table(
        ["feature set", "version", "commit", "time"],
        [(one.feature_set, f"v{one.version}", short(one.commit), ago(one.time)) for one in done.versions],
    )


def _print(out: Output, done: Expiring) -> None:
    kept = sum(done.kept.values())
    if not done.versions:
        out.line(f"nothing expires: {done.policy}, {counted(kept, 'version')} stay")
        return
    _table(out, done)
    verb = "expired" if done.deleted else "would expire"
    out.line(f"{counted(len(done.versions), 'version')} {verb}, {kept:,} stay: {done.policy}")
    if done.record is None:
        out.line("nothing was done; --delete lets them expire")
    else:
        out.line(
            f"'fsvc gc --delete' frees their data; until then 'fsvc expire --undo {done.record[:12]}' takes it back"
        )


def _print_undone(out: Output, done: Expiring) -> None:
    _table(out, done)
    out.line(f"{counted(len(done.versions), 'version')} kept again")
