"""Command-line options that several commands have in common, each named after its setting."""

from __future__ import annotations

import os

import click

from jobs.cli.configuration import load_settings_or_exit
from jobs.settings import Settings
from jobs.settings_errors import variable

bind_option = click.option(
    "--bind",
    "api_bind",
    metavar="ADDRESS:PORT",
    help="Address and port of the API and the dashboard.  [default: MMAUDIO_API_BIND, else 127.0.0.1:8000]",
)
port_option = click.option(
    "--port", type=click.IntRange(1, 65_535), help="Port alone; the address stays that of --bind or MMAUDIO_API_BIND."
)
data_dir_option = click.option(
    "--data-dir",
    type=click.Path(),
    metavar="FOLDER",
    help="Folder of the database, the broker's files and stored objects.  [default: MMAUDIO_DATA_DIR, else ./data]",
)


def load_with_port(port: int | None, **options: object) -> Settings:
    """Return the settings with the port replaced, or end the command.

    Child processes get the address and an absolute data folder through the environment.
    """
    settings = load_settings_or_exit(**options)
    if port is not None:
        settings = load_settings_or_exit(**options | {"api_bind": f"{settings.api_host}:{port}"})
    os.environ[variable("data_dir")] = str(settings.data_dir)
    return settings
