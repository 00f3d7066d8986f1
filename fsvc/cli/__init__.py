"""The command line: ``fsvc COMMAND``. Each command is a file of this package, loaded when it is used."""

from __future__ import annotations

import click

from fsvc.cli.context import HELP_OPTIONS, REPO_HELP, Context, version
from fsvc.cli.group import Entry, LazyGroup

__all__ = ["COMMANDS", "main"]

COMMANDS: dict[str, Entry] = {
    "init": Entry("Start", "fsvc.cli.init:init", "Make a workspace with a repository, or a bare repository."),
    "demo": Entry("Start", "fsvc.cli.demo:demo", "Show the whole story on a small real run."),
    "commit": Entry("Work", "fsvc.cli.commit:commit", "Commit tables from files, all of them or none."),
    "expect": Entry("Work", "fsvc.cli.expect:expect", "Say what has to hold of a feature set, and check it."),
    "status": Entry("Work", "fsvc.cli.status:status", "Compare working files with the current branch."),
    "switch": Entry("Work", "fsvc.cli.switch:switch", "Make another branch the current one."),
    "merge": Entry(
        "Work", "fsvc.cli.merge:merge", "Merge a branch, or any revision, into the current branch."
    ),
    "revert": Entry("Work", "fsvc.cli.revert:revert", "Take back what a commit changed, by a new commit."),
    "cherry-pick": Entry(
        "Work",
        "fsvc.cli.cherry_pick:cherry_pick",
        "Put what one commit changed on top of the current branch.",
    ),
    "checkout": Entry(
        "Work", "fsvc.cli.checkout:checkout", "Write a snapshot, or all at a revision, to files."
    ),
    "log": Entry("Look", "fsvc.cli.log:log", "List commits, newest first."),
    "show": Entry("Look", "fsvc.cli.show:show", "Show a commit or a snapshot."),
    "ls": Entry("Look", "fsvc.cli.ls:ls", "List the feature sets at a revision."),
    "diff": Entry(
        "Look", "fsvc.cli.diff:diff", "Compare two snapshots, two commits, or a commit and the working files."
    ),
    "blame": Entry("Look", "fsvc.cli.blame:blame", "Tell what became of a row."),
    "head": Entry("Look", "fsvc.cli.head:head", "Print the first rows of a snapshot."),
    "sql": Entry("Look", "fsvc.cli.sql:sql", "Ask in SQL: any feature sets, at any versions."),
    "hash": Entry("Look", "fsvc.cli.hash:identity", "Print the identity that a commit would give a file."),
    "rebuild": Entry(
        "Recipes", "fsvc.cli.rebuild:rebuild", "Run a recipe again, and say whether the result is the same."
    ),
    "apply": Entry("Recipes", "fsvc.cli.apply:apply", "Run a recipe on other tables."),
    "training-set": Entry(
        "Recipes",
        "fsvc.cli.training_set:training_set",
        "Look features up for the rows of a spine.",
    ),
    "restore": Entry(
        "Models", "fsvc.cli.restore:restore", "Write the data a model was trained on, proven bit for bit."
    ),
    "lineage": Entry(
        "Models", "fsvc.cli.lineage:lineage", "Show what a model was trained on, or a snapshot made from."
    ),
    "drift": Entry(
        "Models", "fsvc.cli.drift:drift", "Tell how the distributions of columns moved between versions."
    ),
    "retrain": Entry(
        "Models", "fsvc.cli.retrain:retrain", "Run a training command when the data of a model drifted."
    ),
    "score": Entry(
        "Models", "fsvc.cli.score:score", "Predict for the keys in a file, with a model's own features."
    ),
    "models": Entry(
        "Models", "fsvc.cli.models:models", "List the models that were trained on a commit or snapshot."
    ),
    "pins": Entry("Models", "fsvc.cli.pins:pins", "List what keeps the data of models alive."),
    "branch": Entry("Refs", "fsvc.cli.branch:branch", "List, make or delete branches."),
    "tag": Entry("Refs", "fsvc.cli.tag:tag", "List, make or delete tags."),
    "reflog": Entry("Refs", "fsvc.cli.reflog:reflog", "List the moves of a branch or tag."),
    "verify": Entry("Care", "fsvc.cli.verify:verify", "Check that what is stored is whole and undamaged."),
    "expire": Entry("Care", "fsvc.cli.expire:expire", "Let the data of old versions expire, by a policy."),
    "gc": Entry("Care", "fsvc.cli.gc:gc", "Free what nothing needs any more."),
    "repack": Entry("Care", "fsvc.cli.repack:repack", "Put small files together and free space."),
    "purge": Entry(
        "Care", "fsvc.cli.purge:purge", "Erase rows from all versions of a feature set, for good."
    ),
    "stats": Entry("Care", "fsvc.cli.stats:stats", "Count what is stored and what it takes."),
    "completion": Entry(
        "Care", "fsvc.cli.completion:completion", "Print a script for completion in a shell."
    ),
}
"""Every command: the section of ``fsvc --help`` it stands in, where it is, and what it does."""

_EPILOG = """
\b
Exit codes:
  0  done                  4  not found
  1  failed                5  conflict
  2  wrong usage           6  corruption
  3  a difference was found where asked to say so

\b
Environment:
  FSVC_REPOSITORY  the repository, as --repo
  FSVC_AUTHOR      who signs commits: "Name <email>"
  FSVC_DATE        the time of commits, in ISO 8601 with a zone
  MLFLOW_TRACKING_URI  where models are, for the commands on models
  FSVC_DEBUG       set to anything, errors come with a traceback
  NO_COLOR         set to anything, no colours

\b
Configuration, in ~/.config/fsvc/config.toml on Linux:
  [user]           "name" and "email": who signs commits, without FSVC_AUTHOR
"""


@click.group(
    cls=LazyGroup,
    commands_by_name=COMMANDS,
    name="fsvc",
    invoke_without_command=True,
    context_settings={"help_option_names": list(HELP_OPTIONS)},
    epilog=_EPILOG,
)
@click.option("--repo", metavar="LOCATION", help=REPO_HELP)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.option("--version", "show_version", is_flag=True, help="Print the version and stop.")
@click.pass_context
def main(click_context: click.Context, repo: str | None, as_json: bool, show_version: bool) -> None:
    """Version control for the feature tables that models are trained on.

    Hand over the whole new table; only what changed is stored. Every version is immutable, has a hash,
    and can be read in place.
    """
    context = click_context.ensure_object(Context)
    context.location = repo
    context.output.json = as_json
    if show_version:
        context.output.show({"version": version()}, lambda out: out.line(f"fsvc {version()}"))
    elif click_context.invoked_subcommand is None:
        click.echo(click_context.get_help())
