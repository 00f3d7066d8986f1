"""Write ``cli.md`` beside this file from what ``--help`` says of every command. ``make docs`` runs it."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import click

from fsvc.cli import COMMANDS, main

__all__ = ["REFERENCE", "VERSION_LINE", "reference"]

REFERENCE = Path(__file__).with_name("cli.md")
VERSION_LINE = "<!-- Made by generate_cli.py with click {version}; `make docs` makes it anew. -->"
"""What the file begins with: how help is broken into lines is up to click, so its version is told."""

_WIDTH = 80
_SECTIONS = {
    "Start": "Begin",
    "Work": "Work with tables",
    "Look": "Look at what is there",
    "Recipes": "Recipes and training sets",
    "Models": "Models",
    "Refs": "Branches and tags",
    "Care": "Look after it",
}
_ABOUT = """\
# Command line

What `fsvc COMMAND --help` says, for every command. `NAME` is a feature set, `REV` a revision: a version
(`v3`), a branch, a tag, or the beginning of a commit id, then perhaps `{TIME}`, `~n` and `^n`
([Concepts](concepts.md#revisions)). Results go to stdout, messages and progress to stderr. `--json` and
`--repo` may stand before or after the command.
"""


def _help(command: click.Command, name: str, parent: click.Context | None = None) -> str:
    context = click.Context(command, parent, name, terminal_width=_WIDTH, **command.context_settings)
    return f"```text\n{command.get_help(context).rstrip()}\n```\n"


def reference() -> str:
    """The text of the reference, in Markdown."""
    root = click.Context(main, info_name="fsvc", terminal_width=_WIDTH, **main.context_settings)
    contents, commands = [], []
    for section, title in _SECTIONS.items():
        names = [name for name, entry in COMMANDS.items() if entry.section == section]
        contents.append(f"- {title}: " + ", ".join(f"[{name}](#fsvc-{name})" for name in names) + "\n")
        commands += [f"## fsvc {name}\n\n{_help(COMMANDS[name].load(), name, root)}" for name in names]
    begin = VERSION_LINE.format(version=version("click")) + "\n\n" + _ABOUT
    return "\n".join([begin, "".join(contents), f"## fsvc\n\n{_help(main, 'fsvc')}", *commands])


if __name__ == "__main__":
    REFERENCE.write_text(reference(), encoding="utf-8")
