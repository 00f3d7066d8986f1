"""fsvc: version control for the feature tables that models are trained on.

>>> import fsvc
>>> repo = fsvc.init("features")
>>> commit = repo.commit({"customers": table}, key="customer_id", message="first")
>>> repo.snapshot("customers@v1").to_arrow()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fsvc import errors
from fsvc.errors import FsvcError

if TYPE_CHECKING:
    from fsvc.client import FeatureStoreClient
    from fsvc.drafting import identify
    from fsvc.features.lookups import Lookup
    from fsvc.features.recipes import Recipe
    from fsvc.features.splits import Split
    from fsvc.features.training import TrainingSet
    from fsvc.query.sandbox import Sandbox
    from fsvc.repository import Repository, attach, init
    from fsvc.repository import open_repository as open  # noqa: A004 - fsvc.open() is the public name
    from fsvc.snapshot import Commit, Snapshot

__version__ = "0.1.0"

__all__ = [
    "Commit",
    "FeatureStoreClient",
    "FsvcError",
    "Lookup",
    "Recipe",
    "Repository",
    "Sandbox",
    "Snapshot",
    "Split",
    "TrainingSet",
    "__version__",
    "attach",
    "errors",
    "identify",
    "init",
    "open",
]

# Loaded when first used: importing fsvc alone stays light.
_HOMES = {
    "Commit": ("fsvc.snapshot", "Commit"),
    "FeatureStoreClient": ("fsvc.client", "FeatureStoreClient"),
    "Lookup": ("fsvc.features.lookups", "Lookup"),
    "Recipe": ("fsvc.features.recipes", "Recipe"),
    "Repository": ("fsvc.repository", "Repository"),
    "Snapshot": ("fsvc.snapshot", "Snapshot"),
    "Split": ("fsvc.features.splits", "Split"),
    "TrainingSet": ("fsvc.features.training", "TrainingSet"),
    "Sandbox": ("fsvc.query.sandbox", "Sandbox"),
    "attach": ("fsvc.repository", "attach"),
    "identify": ("fsvc.drafting", "identify"),
    "init": ("fsvc.repository", "init"),
    "open": ("fsvc.repository", "open_repository"),
}


def __getattr__(name: str) -> Any:
    from importlib import import_module

    if name in ("drift", "expectations"):
        return import_module(f"fsvc.{name}")
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fsvc' has no attribute {name!r}")
    value = getattr(import_module(home[0]), home[1])
    globals()[name] = value
    return value
