"""The `mmaudio` command: finds its subcommands by entry points and loads only the one that is called."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

from mmaudio_client.cli.exit_codes import EPILOG
from mmaudio_client.cli.session import json_usage_errors

GROUP = "mmaudio.commands"
# Shown by --help without loading the commands: some import slowly, and some need extras that are not installed.
SUMMARIES = {
    "api": "Serve the HTTP API and the dashboard.",
    "cancel": "Cancel a job.",
    "control": "Run maintenance: expired leases, lost messages, retention.",
    "doctor": "Check settings, database, broker, storage and workers.",
    "download": "Save the files of a job.",
    "eval": "Measure the quality of a model.",
    "generate": "Make a sound on this machine, without the platform.",
    "gradio": "Serve a web page for the model, without the platform.",
    "list": "List jobs, newest first.",
    "migrate": "Migrate the database to the current schema.",
    "queue": "Show the queues, pause a variant, limit a tenant.",
    "retry": "Run ended jobs again, by id or by filter.",
    "settings": "Show every setting.",
    "status": "Show a job.",
    "submit": "Create jobs from files, folders or a prompt, and save the sounds.",
    "train": "Train or fine-tune a model.",
    "triggers": "Manage triggers: rules that turn new objects of a bucket into jobs.",
    "up": "Run the whole platform on this machine.",
    "watch": "Follow a job until it ends.",
    "weights": "List, fetch and verify model weights.",
    "worker": "Run jobs: one process per device.",
}
# The extra that a command needs; the others need [worker].
EXTRAS = {"gradio": "demo", "train": "train"}


class LazyGroup(click.Group):
    """A group whose commands are entry points."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click calls it so
        return sorted(_commands())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        point = _commands().get(cmd_name)
        if point is None:
            return None
        if ctx.resilient_parsing:
            return click.Command(cmd_name)
        try:
            command = point.load()
        except ModuleNotFoundError as exc:
            raise click.ClickException(
                f"`mmaudio {cmd_name}` needs {exc.name}, which is not installed. "
                f"Install it with: pip install 'mmaudio-platform[{EXTRAS.get(cmd_name, 'worker')}]'"
            ) from exc
        assert isinstance(command, click.Command), command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        with json_usage_errors(args):
            return super().resolve_command(ctx, args)


def _commands() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]}, epilog=EPILOG)
@click.version_option(package_name="mmaudio-platform", prog_name="mmaudio")
def main() -> None:
    """Make sound for videos, images and prompts with MMAudio.

    `mmaudio up` starts the platform on this machine; `mmaudio submit` sends it work.
    """
