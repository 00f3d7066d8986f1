"""``fsvc gc``."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import print_unfinished
from fsvc.cli.exits import EXIT_CORRUPTION
from fsvc.cli.output import Output, counted, human_size
from fsvc.errors import InvalidUse

if TYPE_CHECKING:
    from fsvc.engine.collection import Collected
    from fsvc.engine.explaining import Explanation

__all__ = ["gc"]


@command(
    "gc",
    examples="""
        fsvc gc
        fsvc gc --delete
        fsvc gc --explain 3f7c2a
    """,
)
@click.option(
    "--dry-run", is_flag=True, help="Only tell what is garbage. That is so unless --delete is given."
)
@click.option("--delete", is_flag=True, help="Condemn garbage, and free what was condemned before.")
@click.option(
    "--grace",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="How long what this run condemns stays for those who may need it yet; 14 unless told."
    " 0 only where nobody else is at work.",
)
@click.option("--explain", metavar="ID", help="Tell what keeps a commit, snapshot, object or pack.")
def gc(context: Context, dry_run: bool, delete: bool, grace: float | None, explain: str | None) -> int:
    """Free what nothing needs any more.

    Kept is what any entry of any branch, tag or pin reaches, deleted ones included, and the snapshots of the working
    files here. The rest is garbage: of commits that were never finished or lost a race.

    With --delete it is condemned, and deleted by the first 'fsvc gc --delete' after the grace, if nothing needs it
    by then. Others may read and commit meanwhile, and it may be interrupted at any time. If anything that is kept
    is damaged or missing, nothing is deleted, and the exit code is 6.
    """
    if dry_run and delete:
        raise InvalidUse("--dry-run and --delete contradict each other")
    workspace = context.find_workspace()
    snapshots = frozenset() if workspace is None else workspace.snapshots()
    repository = context.repository()
    if explain is not None:
        why = repository.explain(explain, snapshots=snapshots)
        context.output.show(asdict(why), lambda out: _explain(out, why))
        return 0
    with context.progress("collecting") as progress:
        done = repository.gc(
            delete=delete,
            grace=None if grace is None else grace * 86400,
            snapshots=snapshots,
            progress=progress,
        )
    context.output.show({**asdict(done), "damaged": list(done.damaged)}, lambda out: _print(out, done))
    return EXIT_CORRUPTION if done.damaged else 0


def _print(out: Output, done: Collected) -> None:
    things = [
        counted(done.commits, "commit"), counted(done.manifests, "manifest"),
        f"{counted(done.objects, 'object')} in {counted(done.packs, 'pack')}",
    ]  # fmt: skip
    if not done.commits + done.manifests + done.packs:
        out.line(
            "there is no garbage" + (f"; {done.young} files are too young to tell" if done.young else "")
        )
    else:
        out.line(f"{', '.join(things)}: {human_size(done.garbage_bytes)} that nothing needs")
        if not done.deleted:
            out.line("nothing was done; 'fsvc gc --delete' condemns it")
        elif done.grace:
            days = f"{done.grace / 86400:g} days" if done.grace != 86400 else "a day"
            out.line(f"condemned; the first 'fsvc gc --delete' in {days} or later frees it")
    if done.rewritten:
        out.line(f"{counted(done.rewritten, 'object')} copied out of packs that go")
    if done.waiting:
        out.line(f"{human_size(done.waiting_bytes)} in {counted(done.waiting, 'file')} condemned so far")
    if done.debris_bytes:
        verb = "freed" if done.deleted else "left"
        out.line(f"{human_size(done.debris_bytes)} of killed processes {verb}")
    if done.freed_bytes:
        out.line(f"{human_size(done.freed_bytes)} freed")
    print_unfinished(out, done.unfinished)
    for name in done.damaged:
        out.line(out.styled(f"pack {name} holds damaged objects and was left: see 'fsvc verify'", fg="red"))


def _explain(out: Output, why: Explanation) -> None:
    out.line(f"{why.kind} {why.id}" + (" is condemned" if why.condemned else ""))
    if not why.kept:
        out.line("nothing keeps it")
    for title, lines in (("needed by", why.snapshots), ("kept by", why.refs), ("carries", why.standing)):
        for line in lines:
            out.line(f"  {title} {line}")
