"""Pins: refs that keep the data of models alive, and lead from data to the models that stand on it.

``pins/mlflow/<model id>`` holds the commit that a model was trained on, ``pins/mlflow/<model id>/<role>`` those
of its other inputs. A pin's first entry is written before the model is logged, the second once it is: a model
never exists without its pin, and a pin with one entry may be of a model that came to nothing. Where the model's
id cannot be known yet, the pin is ``pins/mlflow/unsettled/<token>``, and the model's metadata hold the token.

The reason of an entry is canonical JSON: the feature set, the name of the model, and a fingerprint of the
tracking server that it was logged to, since only that server can say that the model is gone.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from fsvc.engine.clock import timestamp
from fsvc.engine.refs import RefEntry
from fsvc.engine.store import Store
from fsvc.errors import Conflict, Corruption
from fsvc.format import strictjson
from fsvc.format.reference import TRAIN, Reference

__all__ = [
    "Pin",
    "Signer",
    "begin",
    "confirm",
    "list_pins",
    "new_token",
    "pin_name",
    "release",
    "settle",
    "token_run",
]

_KIND: Final = "pins"
_SPACE: Final = "mlflow/"
_UNSETTLED: Final = "unsettled/"
_NO_RUN: Final = "norun"
_TRIES: Final = 8


@dataclass(frozen=True, slots=True)
class Pin:
    """One commit that one model stands on.

    Attributes:
        model: the id of the logged model; None where the pin was made before the model and is not settled.
        token: what the model's metadata hold instead, in an unsettled pin; else None.
        role: what the commit is to the model: ``train``, or the name of another input.
        commit: the id of the commit.
        feature_set: the feature set of that commit; empty where the entry does not say.
        label: the model's name, for people; empty where it is not known.
        server: the fingerprint of the tracking server; empty where it is not known.
        settled: whether the model is known to have been logged.
        time: when the newest entry was written, RFC 3339 in UTC.
        author: who wrote it.
    """

    model: str | None
    token: str | None
    role: str
    commit: str
    feature_set: str
    label: str
    server: str
    settled: bool
    time: str
    author: str

    @property
    def name(self) -> str:
        """The name of the ref."""
        return pin_name(self.role, model=self.model, token=self.token)


def new_token(run: str | None) -> str:
    """A random token for metadata of a model that does not exist yet; it names the run it will be logged in."""
    return f"{run or _NO_RUN}-{uuid.uuid4().hex[:16]}"


def token_run(token: str) -> str | None:
    """The run that a token was made in, if it was made in one."""
    run = token.rpartition("-")[0]
    return None if run in ("", _NO_RUN) else run


def pin_name(role: str, *, model: str | None = None, token: str | None = None) -> str:
    """The name of the ref that pins a model's data in a role. ``model`` or ``token`` says which model."""
    base = f"{_SPACE}{model}" if model is not None else f"{_SPACE}{_UNSETTLED}{token}"
    return base if role == TRAIN else f"{base}/{role}"


def _pin(name: str, entry: RefEntry) -> Pin | None:
    """What an entry of a pin says; None for a ref that is not of this form, which only keeps its commit."""
    if not name.startswith(_SPACE) or entry.commit is None:
        return None
    rest = name.removeprefix(_SPACE)
    unsettled = rest.startswith(_UNSETTLED)
    ident, _, role = rest.removeprefix(_UNSETTLED).partition("/")
    said = _said(entry.reason)
    return Pin(
        None if unsettled else ident,
        ident if unsettled else None,
        role or TRAIN,
        entry.commit,
        said.get("feature_set", ""),
        said.get("model", ""),
        said.get("server", ""),
        not unsettled and entry.sequence > 1,
        entry.time,
        entry.author,
    )


def _said(reason: str) -> dict[str, str]:
    """What the reason of an entry says; nothing where somebody else wrote it."""
    try:
        value = strictjson.loads(reason.encode(), what="the reason of a pin")
    except Corruption:
        return {}
    if not isinstance(value, dict):
        return {}
    return {key: text for key, text in value.items() if isinstance(text, str)}


@dataclass(frozen=True, slots=True)
class Signer:
    """Who writes pins, and for which model: its name for people, and its server's fingerprint."""

    author: str
    time: str
    label: str = ""
    server: str = ""


def list_pins(store: Store) -> list[Pin]:
    """All pins of models, by name. Raises Corruption where one is damaged."""
    found = (_pin(name, entry) for name, entry in store.refs.heads(_KIND).items())
    return [pin for pin in found if pin is not None]


def begin(
    store: Store,
    references: Mapping[str, Reference],
    signer: Signer,
    *,
    model: str | None = None,
    token: str | None = None,
) -> None:
    """Pin what a model that is about to be stands on, by role. Exactly one of ``model`` and ``token`` names it.

    What is pinned already stays as it is. Raises Conflict where the model is pinned to another commit.
    """
    for role, reference in references.items():
        name = pin_name(role, model=model, token=token)
        _move(store, name, reference.commit, reference.feature_set, signer, again=False)


def settle(store: Store, references: Mapping[str, Reference], signer: Signer, *, model: str) -> None:
    """Write down that a model was logged, after :func:`begin`; or pin one that was found logged."""
    for role, reference in references.items():
        name = pin_name(role, model=model)
        for again in (False, True):
            _move(store, name, reference.commit, reference.feature_set, signer, again=again)


def confirm(store: Store, pin: Pin, *, author: str, time: str) -> None:
    """Write down that the model of a pin was logged, where nobody has yet."""
    signer = Signer(author, time, pin.label, pin.server)
    _move(store, pin.name, pin.commit, pin.feature_set, signer, again=True)


def release(store: Store, names: Iterable[str], *, author: str, time: str, reason: str) -> None:
    """Delete pins by their names: the commits are no longer kept for these models. One that is gone is left."""
    for name in names:
        entry = store.refs.head(_KIND, name)
        if entry is not None and entry.commit is not None:
            store.refs.append(_KIND, name, entry, None, author=author, reason=reason, time=time)


def _move(store: Store, name: str, commit: str, feature_set: str, signer: Signer, *, again: bool) -> None:
    """Append an entry to a pin: its first, or with ``again`` the one that settles it, unless it is there."""
    said = {"feature_set": feature_set, "model": signer.label, "server": signer.server}
    reason = strictjson.dumps(said).decode()
    for last in (False,) * (_TRIES - 1) + (True,):
        entry = store.refs.head(_KIND, name)
        if entry is not None and entry.commit is not None:
            if entry.commit != commit:
                raise Conflict(
                    f"pin {name!r} is there already and keeps another commit, {entry.commit[:12]}",
                    hint="a model's data never change; log another model",
                )
            if not again or entry.sequence > 1:
                return
        store.stand_on(commit, time=timestamp())
        try:
            store.refs.append(
                _KIND, name, entry, commit, author=signer.author, reason=reason, time=signer.time
            )
            return
        except Conflict:
            # Somebody else wrote the same pin meanwhile; what they wrote decides.
            if last:
                raise
