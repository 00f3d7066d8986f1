"""References: what a model's metadata says of the data that it was trained on.

A reference names a snapshot by the commit that holds it, and repeats enough of what that commit says that an
edited reference contradicts itself. It never holds a location or a secret: a repository is named by its uuid.

The form in a model's metadata (``schema_version`` 1)::

    {"feature_store_name": NAME, "feature_store_version": COMMIT,
     "fsvc": {"schema_version": 1, "train": REFERENCE or null, "inputs": [REFERENCE and "role", ...]}}
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fsvc.errors import Corruption, InvalidUse, UnknownFormat
from fsvc.format import names
from fsvc.format.commit import is_id

__all__ = ["BLOCK", "NAME_KEY", "TRAIN", "VERSION_KEY", "DataLineage", "Reference", "check_role"]

SCHEMA_VERSION: Final = 1
BLOCK: Final = "fsvc"
NAME_KEY: Final = "feature_store_name"
VERSION_KEY: Final = "feature_store_version"
TRAIN: Final = "train"
"""The role of the data that a model was trained on."""

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_ROLE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
_TOKEN: Final = re.compile(r"[0-9a-z-]{1,80}")


def check_role(role: str) -> None:
    """Refuse a role that is no short plain word. Raises InvalidUse."""
    if not isinstance(role, str) or not _ROLE.fullmatch(role):
        raise InvalidUse(
            f"{names.quoted(str(role))} cannot be a role",
            hint="use up to 63 letters, digits, '_', '-' and '.', such as 'validation'",
        )


@dataclass(frozen=True, slots=True)
class Reference:
    """A snapshot, named so that it can be found again anywhere and checked.

    Attributes:
        repository: the project uuid of the repository, which clones share.
        feature_set: the feature set's name.
        commit: the id of a commit that holds the snapshot.
        snapshot: the snapshot's id.
        version: the feature set's version number at that commit.
        ref: the branch or tag that it was found by, None where it was none; it informs, the hash decides.
        rows: how many rows the snapshot has.
        columns: the columns that were used, in order; None for all of them.
    """

    repository: str
    feature_set: str
    commit: str
    snapshot: str
    version: int
    ref: str | None
    rows: int
    columns: tuple[str, ...] | None

    def document(self) -> dict[str, Any]:
        """The reference as JSON values."""
        return {
            "repository": self.repository,
            "feature_set": self.feature_set,
            "commit": self.commit,
            "snapshot": self.snapshot,
            "version": self.version,
            "ref": self.ref,
            "rows": self.rows,
            "columns": None if self.columns is None else list(self.columns),
        }

    @classmethod
    def parse(cls, value: Any, *, what: str) -> Reference:
        """Read :meth:`document` back; unknown keys are ignored.

        ``what`` names it in errors. Raises Corruption where a part is missing or of another kind.
        """
        if not isinstance(value, Mapping):
            raise Corruption(f"{what} is not a reference to a snapshot")

        def bad(part: str) -> Corruption:
            return Corruption(f"{what} was cut off or edited: its {part!r} is {_shown(value.get(part))}")

        for part in ("repository", "feature_set", "commit", "snapshot"):
            if not isinstance(value.get(part), str):
                raise bad(part)
        if not _UUID.fullmatch(value["repository"]):
            raise bad("repository")
        for part in ("commit", "snapshot"):
            if not is_id(value[part]):
                raise bad(part)
        for part, least in (("version", 1), ("rows", 0)):
            number = value.get(part)
            if type(number) is not int or number < least:
                raise bad(part)
        ref, columns = value.get("ref"), value.get("columns")
        if ref is not None and not isinstance(ref, str):
            raise bad("ref")
        if columns is not None and not (
            isinstance(columns, list) and all(isinstance(column, str) for column in columns)
        ):
            raise bad("columns")
        return cls(
            value["repository"],
            value["feature_set"],
            value["commit"],
            value["snapshot"],
            value["version"],
            ref,
            value["rows"],
            None if columns is None else tuple(columns),
        )


@dataclass(frozen=True, slots=True)
class DataLineage:
    """All data that a model stands on: references by role, the training data's (if it is known) first.

    ``token`` marks metadata that were made before the model was, so that its pin can be found.
    """

    references: Mapping[str, Reference]
    token: str | None = None

    @property
    def train(self) -> Reference | None:
        """The data that the model was trained on; None where it is not known which of the inputs that is."""
        return self.references.get(TRAIN)

    @property
    def inputs(self) -> dict[str, Reference]:
        """The other data that it stands on, by role."""
        return {role: found for role, found in self.references.items() if role != TRAIN}

    def metadata(self) -> dict[str, Any]:
        """The metadata that a model carries, as JSON values."""
        train = self.train
        block: dict[str, Any] = {
            "schema_version": SCHEMA_VERSION,
            "train": None if train is None else train.document(),
            "inputs": [{"role": role, **found.document()} for role, found in self.inputs.items()],
        }
        if self.token is not None:
            block["pin"] = self.token
        plain = {} if train is None else {NAME_KEY: train.feature_set, VERSION_KEY: train.commit}
        return {**plain, BLOCK: block}

    @classmethod
    def parse(cls, metadata: Any, *, what: str) -> DataLineage | None:
        """Read the metadata of a model; None where there is nothing of fsvc in them.

        Raises UnknownFormat for a newer ``schema_version``, Corruption where the metadata were cut off or
        contradict themselves.
        """
        if not isinstance(metadata, Mapping) or BLOCK not in metadata:
            return None
        block = metadata[BLOCK]
        if not isinstance(block, Mapping):
            raise Corruption(f"the {BLOCK!r} metadata of {what} were cut off or edited: they are no object")
        version = block.get("schema_version")
        if type(version) is not int or version < 1:
            raise Corruption(
                f"the {BLOCK!r} metadata of {what} were cut off or edited: their schema_version is {_shown(version)}"
            )
        if version > SCHEMA_VERSION:
            raise UnknownFormat(
                f"the metadata of {what} are of schema_version {version}, this fsvc knows {SCHEMA_VERSION}",
                hint="upgrade fsvc",
            )
        found: dict[str, Reference] = {}
        if "train" not in block or not isinstance(block.get("inputs"), list):
            raise Corruption(
                f"the {BLOCK!r} metadata of {what} were cut off or edited: 'train' or 'inputs' is missing"
            )
        if block["train"] is not None:
            found[TRAIN] = Reference.parse(block["train"], what=f"the training reference of {what}")
        for item in block["inputs"]:
            role = item.get("role") if isinstance(item, Mapping) else None
            if not isinstance(role, str) or not _ROLE.fullmatch(role) or role in found:
                raise Corruption(
                    f"the {BLOCK!r} metadata of {what} were cut off or edited: an input's role is {_shown(role)}"
                )
            found[role] = Reference.parse(item, what=f"the reference {role!r} of {what}")
        token = block.get("pin")
        if token is not None and not (isinstance(token, str) and _TOKEN.fullmatch(token)):
            raise Corruption(f"the {BLOCK!r} metadata of {what} were cut off or edited: 'pin' is no token")
        _check_plain_keys(metadata, found.get(TRAIN), what)
        return cls(found, token)


def _check_plain_keys(metadata: Mapping[str, Any], train: Reference | None, what: str) -> None:
    """Refuse plain keys that say something else than the block does; where they are absent nothing is said."""
    expected = {} if train is None else {NAME_KEY: train.feature_set, VERSION_KEY: train.commit}
    for key, value in expected.items():
        if key in metadata and metadata[key] != value:
            raise Corruption(
                f"the metadata of {what} contradict themselves: {key} is {_shown(metadata[key])},"
                f" but the {BLOCK!r} block says {_shown(value)}"
            )


def _shown(value: Any) -> str:
    return "missing" if value is None else names.quoted(str(value))
