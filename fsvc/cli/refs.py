"""What the commands for branches and tags have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsvc.cli.describing import first_line, short
from fsvc.cli.output import Output, ago
from fsvc.errors import InvalidUse

if TYPE_CHECKING:
    from fsvc.repository import Repository

__all__ = ["check_arguments", "ref_document", "ref_row", "revision_of"]


def revision_of(repository: Repository, text: str | None) -> str | None:
    """A revision as it was written; of ``NAME@REV``, the commit."""
    if text is None or "@" not in text:
        return text
    return repository.snapshot(text).commit.id


def check_arguments(name: str | None, deleted: str | None, command: str) -> None:
    """Refuse a name to make beside a name to delete. Raises InvalidUse."""
    if name is not None and deleted is not None:
        raise InvalidUse(
            f"{name!r} cannot be made while {deleted!r} is deleted", hint=f"run fsvc {command} twice"
        )


def ref_document(repository: Repository, name: str, commit: str) -> dict[str, Any]:
    """A branch or tag in a list, as JSON."""
    found = repository.resolve(commit)
    return {
        "name": name,
        "commit": commit,
        "author": found.author,
        "time": found.time,
        "message": found.message,
    }


def ref_row(out: Output, document: dict[str, Any]) -> tuple[object, ...]:
    """The cells that follow a name in a list of branches or tags: commit, age, message."""
    if document["commit"] is None:
        return "", "", "(no commit yet)"
    return (
        out.styled(short(document["commit"]), fg="yellow"),
        ago(document["time"]),
        first_line(document["message"]),
    )
