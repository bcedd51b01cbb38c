"""``egl-fast completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class, shell_complete

#: Shells ask for completions through this variable.
VARIABLE = "_EGL_FAST_COMPLETE"


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script with which a shell completes commands, options, and file names.

    SHELL is the shell that will run the script, usually from its start-up file.

    \b
    Once, for all future shells:
      egl-fast completion bash >> ~/.bashrc
      egl-fast completion zsh >> ~/.zshrc
      egl-fast completion fish > ~/.config/fish/completions/egl-fast.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(click.Group(), {}, "egl-fast", VARIABLE).source())


def answer(cli: click.Command, instruction: str) -> int:
    """Answer a shell that asks what may come next; returns the exit status."""
    return shell_complete(cli, {}, "egl-fast", VARIABLE, instruction)
