"""`mmaudio completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from mmaudio_client.cli.exit_codes import LOCAL
from mmaudio_client.cli.session import ServerCommand, json_option, print_json

PROGRAM = "mmaudio"
VARIABLE = "_MMAUDIO_COMPLETE"
"""What the scripts set when they call the program; click answers then."""


@click.command(cls=ServerCommand, exit_codes=LOCAL)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]), metavar="SHELL")
@json_option
def completion(shell: str, as_json: bool) -> None:
    """Print the script that completes commands and options in SHELL: bash, zsh or fish.

    \b
      bash: mmaudio completion bash > ~/.local/share/bash-completion/completions/mmaudio
      zsh:  mmaudio completion zsh > ~/.zfunc/_mmaudio       (~/.zfunc is in fpath)
      fish: mmaudio completion fish > ~/.config/fish/completions/mmaudio.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    # Not `source()`: for bash it starts one to ask for its version, and this machine may have none.
    writer = kind(click.Group(PROGRAM), {}, PROGRAM, VARIABLE)
    script = writer.source_template % writer.source_vars()
    print_json({"shell": shell, "script": script}) if as_json else click.echo(script)
