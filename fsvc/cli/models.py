"""``fsvc models``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from fsvc.cli.addresses import find
from fsvc.cli.context import Context, command
from fsvc.cli.describing import short
from fsvc.cli.mlflow_access import talking_to_mlflow, tracking_uri_option
from fsvc.cli.output import Output

if TYPE_CHECKING:
    from fsvc.mlflow.models import TrainedModel

__all__ = ["models"]


@command(
    "models",
    examples="""
        fsvc models customer_features@v3
        fsvc models main~2
    """,
)
@click.argument("what", metavar="[REV | NAME@REV]", required=False)
@tracking_uri_option
def models(context: Context, what: str | None, tracking_uri: str | None) -> None:
    """List the models that were trained on a commit or snapshot.

    NAME@REV finds every model that stands on the same data, REV those that name this very commit. MLflow is
    searched, copies of registered versions included; where it cannot be asked, the repository's own pins answer.
    """
    repository = context.repository()
    wanted = find(repository, what)
    with talking_to_mlflow(context, tracking_uri) as mlflow:
        found = mlflow.models_for(wanted, repository=repository)

    def people(out: Output) -> None:
        if not found:
            out.note("no model is known to stand on it")
        rows = [
            (
                model.name,
                model.role,
                ", ".join(_version_text(model)),
                f"{model.feature_set}@{short(model.commit)}",
                model.status or "",
                model.model_id,
            )
            for model in found
        ]
        out.table(["model", "role", "registered as", "data", "status", "id"], rows)

    context.output.show({"models": [_document(model) for model in found]}, people)


def _version_text(model: TrainedModel) -> list[str]:
    return [
        f"{version.name}/{version.version}" + "".join(f" @{alias}" for alias in version.aliases)
        for version in model.versions
    ]


def _document(model: TrainedModel) -> dict[str, Any]:
    return {
        "model_id": model.model_id,
        "name": model.name,
        "role": model.role,
        "commit": model.commit,
        "feature_set": model.feature_set,
        "run_id": model.run_id,
        "status": model.status,
        "known_by": model.known_by,
        "versions": [
            {"name": version.name, "version": version.version, "aliases": list(version.aliases)}
            for version in model.versions
        ],
    }
