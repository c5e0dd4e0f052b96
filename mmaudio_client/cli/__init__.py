"""The `mmaudio` command, which loads only the subcommand that is called."""

from __future__ import annotations

import click

from mmaudio_client.cli import commands
from mmaudio_client.cli.exit_codes import EPILOG
from mmaudio_client.cli.session import CommandGroup
from mmaudio_client.version import __version__


class LazyGroup(CommandGroup):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        return commands.names()

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if ctx.resilient_parsing and cmd_name not in commands.CLIENT_COMMANDS:
            return click.Command(cmd_name) if cmd_name in commands.names() else None
        return commands.load(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, commands.summary_of(name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(__version__, prog_name="mmaudio")
def main() -> None:
    """Make sound for videos, images and prompts with MMAudio.

    `mmaudio up` starts the platform on this machine; `mmaudio submit` sends it work.
    """
