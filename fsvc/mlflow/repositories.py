"""Finding the repository that a model's data is in, by its uuid.

Models never carry a location. Where repositories were seen is remembered on this machine, in the user's state
directory: that is a hint, and what lies there proves itself by uuid and hashes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import platformdirs

from fsvc.engine import locate
from fsvc.engine.clock import timestamp
from fsvc.engine.replacing import replacing
from fsvc.engine.store import Store, opened
from fsvc.errors import FsvcError, NotFound, StorageError
from fsvc.repository import Repository, open_repository

__all__ = ["RepositoryLike", "find_repository", "opened_repository", "remember"]

RepositoryLike = Repository | str | Path
_FILE = "repositories.json"


def opened_repository(given: RepositoryLike | None) -> Repository:
    """A repository as callers may give it: opened, a location, or None for the one of the workspace here."""
    return given if isinstance(given, Repository) else open_repository(given)


def remember(repository: Repository | Store) -> None:
    """Note where a repository is. Nothing is raised: whoever cannot write notes has none."""
    store = repository if isinstance(repository, Store) else repository.store
    location = _absolute(store.storage.location)
    known = _read()
    if known.get(store.info.project, {}).get("location") == location:
        return
    known[store.info.project] = {"location": location, "time": timestamp()}
    try:
        path = _path()
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path) as partial:
            partial.write_text(json.dumps(known, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    except (OSError, StorageError):
        pass


def find_repository(project: str, given: RepositoryLike | None, *, what: str) -> Repository:
    """The repository with this project uuid: the one given, else one that is open, here, or was seen.

    ``what`` names in errors what stands on its data. Raises NotFound, saying which repository is wanted and
    where it was last seen.
    """
    if given is not None:
        repository = opened_repository(given)
        if repository.project != project:
            raise NotFound(
                f"{what} stands on repository {project}; the one at {repository.location} is"
                f" {repository.project}",
                hint=_hint(project),
            )
        remember(repository)
        return repository
    for store in list(opened):
        if store.info.project == project:
            return Repository(store)
    candidates = [locate.find_workspace(Path.cwd()), _read().get(project, {}).get("location")]
    for candidate in candidates:
        if candidate is None:
            continue
        try:
            repository = open_repository(candidate)
        except FsvcError:
            continue  # it is only a hint: the error below says where it was looked for
        if repository.project == project:
            remember(repository)
            return repository
    raise NotFound(f"{what} stands on repository {project}, which is not here", hint=_hint(project))


def _hint(project: str) -> str:
    seen = _read().get(project)
    if seen is None:
        return "it was never used on this machine; name it with --repo, or repository=..."
    return (
        f"it was last seen at {seen['location']} on {str(seen.get('time', ''))[:10]};"
        " name it with --repo, or repository=..."
    )


def _path() -> Path:
    return platformdirs.user_state_path("fsvc") / _FILE


def _read() -> dict[str, dict[str, Any]]:
    """The notes; a file that cannot be read is none."""
    try:
        value = json.loads(_path().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(value, dict):
        return {}
    return {
        project: seen
        for project, seen in value.items()
        if isinstance(seen, dict) and isinstance(seen.get("location"), str)
    }


def _absolute(location: str) -> str:
    return location if "://" in location else str(Path(location).absolute())
