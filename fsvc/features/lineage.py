"""What a snapshot was made from, and what was made from it: recipes and pins, read as a graph.

The graph can have no circle: a recipe names commits that were there before its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fsvc.engine import history
from fsvc.engine.pins import Pin, list_pins
from fsvc.engine.store import Store
from fsvc.errors import Corruption, FsvcError, NotFound
from fsvc.features.recipes import Recipe, snapshot_of
from fsvc.format.recipe import MEMBER, GivenTable, RecipeRecord
from fsvc.snapshot import Snapshot

__all__ = ["Lineage", "Node", "Step", "lineage"]

Node: TypeAlias = tuple[str, str]
"""A feature set's name and a snapshot id."""


@dataclass
class Step:
    """A snapshot in a graph, and what it was made from.

    Attributes:
        name: the feature set.
        snapshot: the snapshot id.
        version: its number at ``commit``.
        commit: a commit that holds it.
        recipe: the recipe; None where it was committed as a table, or is not here.
        inputs: the snapshots that the recipe read, by the names that it has for them.
        problem: why it is not here, or cannot be read; None where all is well.
    """

    name: str
    snapshot: str
    version: int
    commit: str
    recipe: RecipeRecord | None = None
    inputs: dict[str, Node] = field(default_factory=dict)
    problem: str | None = None

    @property
    def tables(self) -> Mapping[str, GivenTable]:
        """The tables from outside that it was made from."""
        return {} if self.recipe is None else self.recipe.tables


@dataclass(frozen=True)
class Lineage:
    """What a snapshot was made from, all the way up, and what was made from it, all the way down.

    Attributes:
        node: the snapshot that was asked about.
        steps: every snapshot of the graph.
        made: the snapshots that were made from each, as far as branches, tags and pins reach.
        models: the pins of models that stand on each snapshot of the graph.
    """

    node: Node
    steps: Mapping[Node, Step]
    made: Mapping[Node, tuple[Node, ...]]
    models: Mapping[Node, tuple[Pin, ...]]


def lineage(snapshot: Snapshot) -> Lineage:
    """The graph around a snapshot. Every commit that a ref reaches is looked at; no data is read."""
    store = snapshot.store
    node = (snapshot.name, snapshot.id)
    steps: dict[Node, Step] = {}
    _go_up(snapshot, steps)
    pins = list_pins(store)
    readers, made_by = _readers(store, pins)
    made: dict[Node, tuple[Node, ...]] = {}
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if one in made:
            continue
        made[one] = tuple(readers.get(one, {}))
        for child in made[one]:
            if child not in steps:
                steps[child] = made_by[child]
            waiting.append(child)
    models: dict[Node, list[Pin]] = {}
    for pin in pins:
        try:
            value = store.commit(pin.commit).feature_sets.get(pin.feature_set)
        except Corruption:
            continue  # damage is for 'fsvc verify' to tell of
        if value is not None and (pin.feature_set, value.snapshot) in steps and pin.model is not None:
            models.setdefault((pin.feature_set, value.snapshot), []).append(pin)
    return Lineage(node, steps, made, {one: tuple(found) for one, found in models.items()})


def _go_up(snapshot: Snapshot, steps: dict[Node, Step]) -> None:
    waiting = [snapshot]
    while waiting:
        one = waiting.pop()
        if (one.name, one.id) in steps:
            continue
        step = Step(one.name, one.id, one.version, one.commit.id)
        steps[one.name, one.id] = step
        try:
            step.commit, _ = history.origin(one.store, one.commit.id, one.name)
            recipe = Recipe.find(one)
        except FsvcError as error:
            step.problem = error.message
            continue
        if recipe is None:
            continue
        step.recipe = recipe.record
        for name, reference in recipe.inputs.items():
            node = (reference.feature_set, reference.snapshot)
            step.inputs[name] = node
            try:
                waiting.append(snapshot_of(one.store, reference))
            except (NotFound, Corruption) as error:
                steps.setdefault(
                    node,
                    Step(*node, reference.version, reference.commit, problem=error.message),
                )


def _readers(store: Store, pins: list[Pin]) -> tuple[dict[Node, dict[Node, None]], dict[Node, Step]]:
    """For every snapshot, those that a recipe made from it; and these by what they are."""
    starts = [
        entry.commit
        for kind in ("heads", "tags")
        for entry in store.refs.heads(kind).values()
        if entry.commit is not None
    ]
    readers: dict[Node, dict[Node, None]] = {}
    made: dict[Node, Step] = {}
    for commit, record in history.ancestors(store, list(dict.fromkeys([*starts, *(p.commit for p in pins)]))):
        for name, change in record.changes.items():
            found = change.get(MEMBER)
            value = record.feature_sets.get(name)
            if found is None or value is None:
                continue
            try:
                recipe = RecipeRecord.parse(found, what=f"the recipe of {name} in {history.short(commit)}")
            except FsvcError:
                continue
            node = (name, value.snapshot)
            inputs = {
                spelled: (reference.feature_set, reference.snapshot)
                for spelled, reference in recipe.inputs.items()
            }
            made[node] = Step(name, value.snapshot, value.version, commit, recipe, inputs)
            for source in inputs.values():
                if source != node:
                    readers.setdefault(source, {})[node] = None
    return readers, made
