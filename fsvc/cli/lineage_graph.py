"""How the graph around a snapshot is shown: as a tree up, a tree down, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from fsvc.cli.describing import short
from fsvc.cli.output import Output

if TYPE_CHECKING:
    from fsvc.features.lineage import Lineage, Node, Step

__all__ = ["graph_document", "print_graph"]


def graph_document(graph: Lineage) -> dict[str, Any]:
    """The graph as JSON: its snapshots, and which was made from which. The one asked about comes first."""
    nodes = [graph.node, *(node for node in graph.steps if node != graph.node)]
    return {
        "name": graph.node[0],
        "snapshot": graph.node[1],
        "snapshots": [_step_document(graph, graph.steps[node]) for node in nodes],
    }


def _step_document(graph: Lineage, step: Step) -> dict[str, Any]:
    node = (step.name, step.snapshot)
    return {
        "name": step.name,
        "version": step.version,
        "snapshot": step.snapshot,
        "commit": step.commit,
        "recipe": None if step.recipe is None else step.recipe.document(),
        "made_from": [
            {"as": name, "name": source[0], "snapshot": source[1]} for name, source in step.inputs.items()
        ],
        "made_into": [{"name": name, "snapshot": snapshot} for name, snapshot in graph.made.get(node, ())],
        "models": [
            {"model_id": pin.model, "name": pin.label, "role": pin.role} for pin in graph.models.get(node, ())
        ],
        "problem": step.problem,
    }


def print_graph(out: Output, graph: Lineage) -> None:
    """Print the graph: the snapshot, below it what it was made from, then what was made from it."""
    step = graph.steps[graph.node]
    out.line(out.styled(f"{step.name} v{step.version}", bold=True), _about(step))
    if step.inputs or step.tables:
        out.line("made from")
        _tree(out, graph, graph.node, _sources, "", {graph.node})
    elif step.problem is None:
        out.line("made from", "  ", "a table")
    if graph.made.get(graph.node) or graph.models.get(graph.node):
        out.line("made into")
        _tree(out, graph, graph.node, _results, "", {graph.node})


def _sources(graph: Lineage, node: Node) -> tuple[Sequence[tuple[str, Node]], list[str]]:
    """The snapshots that one was made from, with the names that its recipe has for them, and its tables."""
    step = graph.steps[node]
    tables = [
        f"{name}  {table.path or 'a table in memory'}, {short(table.snapshot)}"
        for name, table in step.tables.items()
    ]
    return list(step.inputs.items()), tables


def _results(graph: Lineage, node: Node) -> tuple[Sequence[tuple[str, Node]], list[str]]:
    """The snapshots that were made from one, and the models that stand on it."""
    models = [f"model {pin.label or pin.model}  {pin.role}" for pin in graph.models.get(node, ())]
    return [("", child) for child in graph.made.get(node, ())], models


def _tree(
    out: Output,
    graph: Lineage,
    node: Node,
    branches: Callable[[Lineage, Node], tuple[Sequence[tuple[str, Node]], list[str]]],
    indent: str,
    shown: set[Node],
) -> None:
    children, leaves = branches(graph, node)
    total = len(children) + len(leaves)
    for number, (name, child) in enumerate(children):
        last = number == total - 1
        step = graph.steps[child]
        label = f"{step.name} v{step.version}"
        again = child in shown and any(branches(graph, child))
        spelled = f"  as {name}" if name and name not in (step.name, f"{step.name}@v{step.version}") else ""
        out.line(
            f"{indent}{'└─ ' if last else '├─ '}",
            out.styled(label, bold=True),
            _about(step),
            spelled,
            "  (as above)" if again else "",
        )
        if child not in shown:
            shown.add(child)
            _tree(out, graph, child, branches, indent + ("   " if last else "│  "), shown)
    for number, leaf in enumerate(leaves, len(children)):
        out.line(f"{indent}{'└─ ' if number == total - 1 else '├─ '}", leaf)


def _about(step: Step) -> str:
    if step.problem is not None:
        return f"  {short(step.commit)}  {step.problem}"
    kind = "" if step.recipe is None else "  query" if step.recipe.training_set is None else "  training set"
    return f"  {short(step.commit)}{kind}"
