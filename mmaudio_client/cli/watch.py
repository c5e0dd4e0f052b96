"""`mmaudio watch`."""

from __future__ import annotations

import click

from mmaudio_client.cli.exit_codes import WATCHING
from mmaudio_client.cli.job_view import conclude, follow
from mmaudio_client.cli.session import ServerCommand, print_json, with_server
from mmaudio_client.client import Client


@click.command(cls=ServerCommand, exit_codes=WATCHING)
@click.argument("job")
@with_server
def watch(client: Client, job: str, as_json: bool) -> None:
    """Follow JOB (an id, or its beginning) until it ends; the exit code says how."""
    ended = follow(client, client.get(client.resolve_id(job)), quiet=as_json)
    if as_json:
        print_json(ended.raw)
    conclude(ended, quiet=as_json)
    if not as_json:
        click.echo(f"{ended.id}: {ended.state}. Save its files with: mmaudio download {ended.id}")
