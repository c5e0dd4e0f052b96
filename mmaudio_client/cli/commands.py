"""The commands of `mmaudio`: those of this package, and those that the server's distribution adds by entry points."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import IO, Any

import click

GROUP = "mmaudio.commands"
PLATFORM = "mmaudio-platform"
"""The distribution with the server, its workers and the model."""


class NotInstalledError(click.UsageError):
    """Raised when a command's distribution, or an extra of it, is not installed. Nothing was done."""

    code = "not_installed"

    def show(self, file: IO[Any] | None = None) -> None:
        click.echo(f"Error: {self.format_message()}", file=file, err=file is None)  # no usage line: it was right


@dataclass(frozen=True)
class ClientCommand:
    """A command of this package: where it is, and its line in `mmaudio --help`, which loads no command."""

    target: str
    summary: str

    def load(self) -> object:
        module, _, attribute = self.target.partition(":")
        return getattr(import_module(f"mmaudio_client.cli.{module}"), attribute)


CLIENT_COMMANDS = {
    "batches": ClientCommand("batches:batches", "Create and follow batches: many jobs by one call."),
    "cancel": ClientCommand("cancel:cancel", "Cancel a job."),
    "completion": ClientCommand("completion:completion", "Print the completion script of a shell."),
    "delete": ClientCommand("delete:delete", "Delete ended jobs and their files."),
    "download": ClientCommand("download:download", "Save the files of a job."),
    "list": ClientCommand("list:list_", "List jobs, newest first."),
    "login": ClientCommand("login:login", "Check and store the API key of a server."),
    "logout": ClientCommand("login:logout", "Remove the stored API key of a server."),
    "logs": ClientCommand("logs:logs", "Show the events of jobs, as lines."),
    "mcp": ClientCommand("mcp:mcp", "Serve make_sound and other tools to programs that speak MCP."),
    "presets": ClientCommand("presets:presets", "Manage presets: named fields of requests."),
    "retry": ClientCommand("retry:retry", "Run ended jobs again, by id or by filter."),
    "status": ClientCommand("status:status", "Show a job."),
    "submit": ClientCommand("submit:submit", "Create jobs from files, folders or a prompt, and save the sounds."),
    "triggers": ClientCommand(
        "triggers:triggers", "Manage triggers: rules that turn new objects of a bucket into jobs."
    ),
    "upload": ClientCommand("upload:upload", "Upload a file for several jobs, or the rest of one."),
    "watch": ClientCommand("watch:watch", "Follow a job until it ends."),
    "webhooks": ClientCommand("webhooks:webhooks", "Manage webhooks: URLs that the server calls."),
}
SERVER_COMMANDS = {
    "api": "Serve the HTTP API and the dashboard.",
    "control": "Run maintenance: expired leases, lost messages, retention.",
    "doctor": "Check settings, database, broker, storage and workers.",
    "eval": "Measure the quality of a model.",
    "generate": "Make a sound on this machine, without the platform.",
    "gradio": "Serve a web page for the model, without the platform.",
    "keys": "Make, list, rotate and revoke API keys, in the database.",
    "migrate": "Migrate the database to the current schema.",
    "queue": "Show the queues, pause a variant, limit a tenant.",
    "settings": "Show every setting.",
    "tenants": "Show and set where tenants may read and write, and their limits.",
    "train": "Train or fine-tune a model.",
    "up": "Run the whole platform on this machine.",
    "weights": "List, fetch and verify model weights.",
    "worker": "Run jobs: one process per device.",
}
"""Summaries of the commands of the server's distribution."""
EXTRAS = {
    "eval": "worker",
    "generate": "worker",
    "gradio": "demo",
    "mcp": "mcp",
    "train": "train",
    "up": "worker",
    "weights": "worker",
    "worker": "worker",
}
"""The extra of its distribution that a command needs."""


def names() -> list[str]:
    """Return the names of the commands that are installed."""
    return sorted({*CLIENT_COMMANDS, *(point.name for point in entry_points(group=GROUP))})


def summary_of(name: str) -> str:
    """Return the line of a command in `mmaudio --help`."""
    return CLIENT_COMMANDS[name].summary if name in CLIENT_COMMANDS else SERVER_COMMANDS.get(name, "")


def load(name: str) -> click.Command | None:
    """Load a command; None: there is none of that name.

    Raises:
        NotInstalledError: the command exists, but its distribution or an extra of it is not installed.
    """
    if name in CLIENT_COMMANDS:
        found = CLIENT_COMMANDS[name].load
    else:
        points = [*entry_points(group=GROUP, name=name)]
        if not points:
            if name in SERVER_COMMANDS:
                raise NotInstalledError(_only_client(name))
            return None
        found = points[0].load
    try:
        command = found()
    except ModuleNotFoundError as exc:
        raise NotInstalledError(
            f"`mmaudio {name}` needs {exc.name}, which is not installed. Install it with: {_install(name)}"
        ) from exc
    assert isinstance(command, click.Command), command
    return command


def _only_client(name: str) -> str:
    return (
        f"`mmaudio {name}` is a command of the server, and only the client is installed. "
        f"Install the server with: {_install(name)}"
    )


def _install(name: str) -> str:
    if name in CLIENT_COMMANDS:
        return f"pip install 'mmaudio-client[{EXTRAS[name]}]'" if name in EXTRAS else "pip install mmaudio-client"
    # The API, the control worker and the migrations need no extra, unless one of their packages is missing.
    return f"pip install '{PLATFORM}[{EXTRAS[name]}]'" if name in EXTRAS else f"pip install {PLATFORM}"
