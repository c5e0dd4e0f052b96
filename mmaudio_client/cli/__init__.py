"""The `mmaudio` command: finds its sub-commands by entry points and loads only the one that is asked for."""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

import click

GROUP = "mmaudio.commands"
# Shown by --help without loading a command: some of them import much, and some need extras that are not installed.
SUMMARIES = {
    "api": "Serve the HTTP API and the dashboard.",
    "cancel": "Cancel a job.",
    "control": "Mend what is stuck: lost workers, lost messages.",
    "download": "Save the files of a job.",
    "generate": "Make sound here, without the platform.",
    "gradio": "A page in the browser for the model alone.",
    "list": "List jobs, newest first.",
    "migrate": "Bring the database to the current schema.",
    "queue": "Show the queues, pause a variant, limit a tenant.",
    "settings": "Show every setting.",
    "status": "Show a job.",
    "submit": "Send a video (or only words) and save the sound.",
    "up": "Run the whole platform on this machine.",
    "watch": "Follow a job until it ends.",
    "weights": "Show, fetch and check the models' weights.",
    "worker": "Take jobs, one process a device.",
}


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
                "Install it with: pip install 'mmaudio-platform[worker]'"
            ) from exc
        assert isinstance(command, click.Command), command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows = [(name, SUMMARIES.get(name, "")) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


def _commands() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="mmaudio-platform", prog_name="mmaudio")
def main() -> None:
    """Hand in a video, an image or words; get back sound that fits."""
