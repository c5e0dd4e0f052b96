"""`mmaudio mcp`."""

from __future__ import annotations

import functools
from pathlib import Path

import click

from mmaudio_client.async_client import AsyncClient
from mmaudio_client.cli.exit_codes import LOCAL
from mmaudio_client.cli.session import ServerCommand, api_key_option, api_url_option, json_option
from mmaudio_client.mcp_server.server import new_server

DEFAULT_FOLDER = "~/mmaudio"


@click.command(cls=ServerCommand, exit_codes=LOCAL)
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=DEFAULT_FOLDER,
    show_default=True,
    envvar="MMAUDIO_MCP_OUTPUT",
    show_envvar=True,
    help="Folder for the files that the tools save; created where absent.",
)
@api_url_option
@api_key_option
@json_option
def mcp(output: Path, api_url: str, api_key: str | None, as_json: bool) -> None:  # noqa: ARG001 - for errors alone
    """Serve the tools make_sound, job_status, fetch_result, cancel_job, list_jobs and list_variants over MCP.

    A program that speaks MCP (an assistant, an editor) starts this command and talks to it by its standard input and
    output; it ends with that program. The key is best given as MMAUDIO_API_KEY, or stored by `mmaudio login`.
    """
    open_client = functools.partial(AsyncClient, api_url, api_key=api_key, wait_for_server=False)
    open_client()  # an address or a key that cannot be used is an error now, not in the first call
    new_server(open_client, output.expanduser()).run("stdio")
