"""``fsvc completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from fsvc.cli.context import Context, command
from fsvc.cli.output import Output, Shown

__all__ = ["completion"]


@command("completion", needs_repository=False)
@click.argument("shell", metavar="SHELL", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(click_context: click.Context, context: Context, shell: str) -> None:
    """Print a script for completion in a shell.

    \b
    bash:  eval "$(fsvc completion bash)"           in ~/.bashrc
    zsh:   eval "$(fsvc completion zsh)"            in ~/.zshrc
    fish:  fsvc completion fish | source            in ~/.config/fish/config.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    root = click_context.find_root().command
    script = kind(root, {}, "fsvc", "_FSVC_COMPLETE").source()

    def people(out: Output) -> None:
        out.line(Shown(script))

    context.output.show({"shell": shell, "script": script}, people)
