"""The tags by which models are found again from their data.

They stand on logged models and on registered versions; copies of a version inherit them. They serve searching
only: what a model says of its data is in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from fsvc.format.reference import TRAIN, Reference

__all__ = ["COMMIT", "INPUTS", "SNAPSHOT", "model_tags"]

REPOSITORY: Final = "fsvc.repository"
FEATURE_SET: Final = "fsvc.feature_set"
VERSION: Final = "fsvc.version"
COMMIT: Final = "fsvc.commit"
SNAPSHOT: Final = "fsvc.snapshot"
INPUTS: Final = "fsvc.inputs"


def model_tags(references: Mapping[str, Reference]) -> dict[str, str]:
    """The tags of a model that stands on these data, by role."""
    tags = {}
    train = references.get(TRAIN)
    if train is not None:
        tags = {
            REPOSITORY: train.repository,
            FEATURE_SET: train.feature_set,
            VERSION: str(train.version),
            COMMIT: train.commit,
            SNAPSHOT: train.snapshot,
        }
    inputs = {
        role: {"commit": found.commit, "feature_set": found.feature_set, "snapshot": found.snapshot}
        for role, found in references.items()
        if role != TRAIN
    }
    if inputs:
        tags[INPUTS] = json.dumps(inputs, sort_keys=True, separators=(",", ":"))
    return tags
