"""``fsvc status``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.output import Output, counted
from fsvc.format.expectation import expected_of

if TYPE_CHECKING:
    from fsvc.snapshot import Commit
    from fsvc.workspace import FileStatus

__all__ = ["status"]

_COLOURS = {"modified": "red", "missing": "red", "behind": "yellow", "untracked": "bright_black"}


@command(
    "status",
    examples="""
        fsvc status
        fsvc status --all
    """,
)
@click.option("--all", "-a", "everything", is_flag=True, help="List unchanged files too.")
def status(context: Context, everything: bool) -> None:
    """Compare working files with the current branch.

    A file is modified if the table in it is another one than was committed or checked out; that it was
    touched, or written anew with the same table, does not count. It is behind if the branch has another
    snapshot by now. Files that look like tables and belong to no feature set are untracked.
    """
    workspace = context.workspace()
    with context.progress("reading") as progress:
        files = workspace.status(progress=progress)
    branch = workspace.branch
    head = workspace.repository.head(branch)
    tracked = {file.feature_set for file in files}
    there = head.versions if head is not None else ()
    absent = sorted(name for name in there if name not in tracked and expected_of(name) is None)

    def people(out: Output) -> None:
        where = f"at {short(head.id)}" if head is not None else "nothing is committed on it yet"
        out.line("on branch ", out.styled(branch, fg="green", bold=True), f", {where}")
        listed = [file for file in files if everything or file.behind or file.state != "unchanged"]
        rows = [
            (_styled(out, file), file.path, file.feature_set or "", _note(file, branch, head))
            for file in listed
        ]
        out.table(("state", "file", "feature set", "note"), rows)
        if not listed:
            out.note(f"{counted(len(files), 'file')} as committed" if files else "no file is tracked yet")
        if absent:
            shown = ", ".join(absent[:5]) + (", ..." if len(absent) > 5 else "")
            out.note(
                f"{counted(len(absent), 'feature set')} without a file here ({shown}): ",
                f"'fsvc checkout {branch}' writes them",
            )
        if any(file.behind and file.head is not None for file in files):
            out.note(f"'fsvc switch {branch}' brings files that are behind up to the branch")

    context.output.show(
        {
            "branch": branch,
            "commit": head.id if head is not None else None,
            "files": [_document(file) for file in files],
            "absent": absent,
        },
        people,
    )


def _word(file: FileStatus) -> str:
    """One word for a file; that it is behind is told where nothing worse is."""
    return "behind" if file.state == "unchanged" and file.behind else file.state


def _styled(out: Output, file: FileStatus) -> object:
    word = _word(file)
    return out.styled(word, fg=_COLOURS[word]) if word in _COLOURS else word


def _note(file: FileStatus, branch: str, head: Commit | None) -> str:
    notes = [file.problem] if file.problem else []
    if file.behind and file.feature_set is not None:
        if file.head is None or head is None:
            notes.append(f"not on {branch}")
        else:
            notes.append(f"{branch} has v{head.versions[file.feature_set]}")
    return "; ".join(notes)


def _document(file: FileStatus) -> dict[str, Any]:
    return {
        "path": file.path,
        "state": file.state,
        "behind": file.behind,
        "feature_set": file.feature_set,
        "snapshot": file.snapshot,
        "head": file.head,
        "problem": file.problem,
    }
