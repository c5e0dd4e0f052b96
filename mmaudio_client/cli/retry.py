"""`mmaudio retry`."""

from __future__ import annotations

from pathlib import Path

import click

from mmaudio_client.cli.output_folder import output_option
from mmaudio_client.cli.session import ServerCommand, with_server
from mmaudio_client.cli.single_job import check_output, finish, no_wait_option
from mmaudio_client.client import Client


@click.command(cls=ServerCommand)
@click.argument("job")
@output_option
@no_wait_option
@with_server
def retry(client: Client, job: str, output: Path, no_wait: bool, as_json: bool) -> None:
    """Run JOB (an id, or its beginning) again, as a new job with the same request and seed; save its files.

    The job must have ended: failed, canceled or succeeded.
    """
    check_output(output, no_wait=no_wait)
    finish(client, client.retry(client.resolve_id(job)), output, no_wait=no_wait, as_json=as_json)
