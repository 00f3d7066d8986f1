"""Linking what is read to what is logged, without naming it.

Within :func:`track`, a snapshot that is read while a run is active belongs to that run. When a model is logged in
the run, by whatever flavour or by autologging, it gets the metadata, tags and pins of what was read. A read is
never attributed to a run that was not active in the thread that read; where something was read that may or may
not belong to a model, a warning says so and nothing is linked.
"""

from __future__ import annotations

import re
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import mlflow
from mlflow.models import Model
from mlflow.models.model import ModelInfo

from fsvc.engine import reads
from fsvc.engine.store import Store
from fsvc.errors import FsvcError, FsvcWarning
from fsvc.format.commit import CommitRecord
from fsvc.format.reference import BLOCK, TRAIN
from fsvc.mlflow.logging import link_run, log_by_token
from fsvc.mlflow.server import asking, client
from fsvc.mlflow.tags import model_tags
from fsvc.snapshot import Commit, Snapshot

__all__ = ["Tracker", "track"]

_NO_ROLE = re.compile(r"[^A-Za-z0-9_.-]+")


@dataclass
class _Run:
    """What was read while one run was active: by repository, feature set and commit, the columns."""

    read: dict[tuple[int, str, str], tuple[Store, CommitRecord, list[str] | None]] = field(
        default_factory=dict
    )
    linked: bool = False

    def add(self, store: Store, record: CommitRecord, name: str, columns: Sequence[str] | None) -> None:
        key = (id(store), name, record.id)
        known = self.read.get(key)
        if known is None:
            self.read[key] = (store, record, None if columns is None else list(columns))
            self.linked = False
        elif known[2] is not None:
            merged = None if columns is None else list(dict.fromkeys([*known[2], *columns]))
            self.read[key] = (store, record, merged)

    def snapshots(self) -> dict[str, Snapshot]:
        """What was read, by role: one snapshot is what a model was trained on, of several nobody knows which."""
        found = [
            (name, Commit(store, record.id, record).snapshot(name), columns)
            for (_, name, _), (store, record, columns) in self.read.items()
        ]
        chosen = [(name, snap if columns is None else snap.select(columns)) for name, snap, columns in found]
        if len(chosen) == 1:
            return {TRAIN: chosen[0][1]}
        by_role: dict[str, Snapshot] = {}
        for name, snap in chosen:
            plain = _NO_ROLE.sub("-", name).strip("-._")[:40] or "data"
            role, number = f"{plain}-v{snap.version}", 2
            while role in by_role:
                role, number = f"{plain}-v{snap.version}.{number}", number + 1
            by_role[role] = snap
        return by_role


class Tracker:
    """What :func:`track` gives: which snapshots were read in which run so far."""

    def __init__(self) -> None:
        self._runs: dict[str, _Run] = {}
        self._outside: set[str] = set()
        self._lock = threading.Lock()

    def __call__(self, store: Store, record: CommitRecord, name: str, columns: Sequence[str] | None) -> None:
        """Note a read; called in the thread that reads."""
        run = mlflow.active_run()
        with self._lock:
            if run is None:
                self._outside.add(f"{name}@{record.id[:12]}")
            else:
                self._runs.setdefault(run.info.run_id, _Run()).add(store, record, name, columns)

    def snapshots(self, run_id: str) -> dict[str, Snapshot]:
        """What was read while a run was active, by role."""
        with self._lock:
            run = self._runs.get(run_id)
            return run.snapshots() if run is not None else {}

    def _log(self, run_id: str | None, options: dict[str, Any], original: Any) -> ModelInfo:
        """Log a model with what its run has read."""
        named = isinstance(options.get("metadata"), dict) and BLOCK in options["metadata"]
        snapshots = {} if run_id is None else self.snapshots(run_id)
        if named or run_id is None or not snapshots:
            if not named:
                self._say_unknown(run_id)
            info: ModelInfo = original(**options)
            return info
        if TRAIN not in snapshots:
            warnings.warn(
                f"run {run_id} has read {len(snapshots)} snapshots ({', '.join(snapshots)}), and nothing says which"
                " of them the model was trained on: they are linked as inputs",
                FsvcWarning,
                stacklevel=4,
            )
        references = {role: snap.reference for role, snap in snapshots.items()}
        options["tags"] = {**(options.get("tags") or {}), **model_tags(references)}
        own = dict(options.pop("metadata", None) or {})
        info = log_by_token(
            snapshots, run_id, lambda lineage: original(**options, metadata={**own, **lineage})
        )
        with self._lock:
            self._runs[run_id].linked = True
        return info

    def _say_unknown(self, run_id: str | None) -> None:
        with self._lock:
            elsewhere = sorted(self._outside)
            others = [other for other in self._runs if other != run_id]
        if elsewhere or others:
            where = "while no run was active" if elsewhere else f"in another run ({', '.join(others)})"
            what = ", ".join(elsewhere) if elsewhere else "snapshots"
            warnings.warn(
                f"this model is not linked to any data: its run has read no snapshot; {what} was read {where}."
                " Read within the run, or name it: fsvc.mlflow.log_model(..., snapshot=...)",
                FsvcWarning,
                stacklevel=4,
            )

    def _finish(self) -> None:
        """Link runs in which no model was logged to what they have read."""
        with self._lock:
            open_runs = [(run_id, run.snapshots()) for run_id, run in self._runs.items() if not run.linked]
        for run_id, snapshots in open_runs:
            try:
                with asking(f"the run {run_id}"):
                    link_run(client().get_run(run_id), snapshots, None)
            except FsvcError as error:
                warnings.warn(
                    f"run {run_id} was not linked to what it has read: {error}", FsvcWarning, stacklevel=4
                )


_trackers: list[Tracker] = []
_patching = threading.Lock()
_original: Any = None


@contextmanager
def track() -> Iterator[Tracker]:
    """Link the snapshots that are read within to the runs that read them, and to the models logged in these.

    A snapshot counts as read by the run that is active in the reading thread when a ``to_`` method, a relation
    or a ``fsvc://`` file is asked for. One snapshot becomes what the run's models were trained on; several become
    inputs, with a FsvcWarning, since nobody said which it was. A model of a run that has read nothing is not
    linked, and a FsvcWarning says what was read elsewhere. Models that name their data themselves, through
    :func:`fsvc.mlflow.log_model` or :func:`fsvc.mlflow.metadata`, stay as they are.
    """
    tracker = Tracker()
    with _patching:
        _trackers.append(tracker)
        reads.listeners.append(tracker)
        if len(_trackers) == 1:
            _wrap()
    try:
        yield tracker
    finally:
        with _patching:
            _trackers.remove(tracker)
            reads.listeners.remove(tracker)
            if not _trackers:
                _unwrap()
        tracker._finish()


def _wrap() -> None:
    """Have every flavour, which all log through this one method, ask the trackers first."""
    global _original  # noqa: PLW0603 - one method of MLflow is replaced, once
    _original = Model.__dict__["log"]
    plain = Model.log

    def log(_: type[Model], *args: Any, **options: Any) -> ModelInfo:
        options |= dict(zip(("artifact_path", "flavor", "registered_model_name"), args, strict=False))
        run = mlflow.active_run()
        run_id = options.get("run_id") or (run.info.run_id if run is not None else None)
        with _patching:
            trackers = list(_trackers)
        chosen = next((t for t in reversed(trackers) if run_id is not None and t.snapshots(run_id)), None)
        if chosen is None and trackers:
            chosen = trackers[-1]
        return chosen._log(run_id, options, plain) if chosen is not None else plain(**options)

    type.__setattr__(Model, "log", classmethod(log))


def _unwrap() -> None:
    type.__setattr__(Model, "log", _original)
