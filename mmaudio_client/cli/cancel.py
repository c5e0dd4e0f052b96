"""`mmaudio cancel`."""

from __future__ import annotations

import click

from mmaudio_client.cli.exit_codes import ASKING
from mmaudio_client.cli.session import ServerCommand, print_json, with_server
from mmaudio_client.client import Client


@click.command(cls=ServerCommand, exit_codes=ASKING)
@click.argument("job")
@with_server
def cancel(client: Client, job: str, as_json: bool) -> None:
    """Cancel JOB (an id, or its beginning). A running job stops within one sampling step."""
    canceled = client.cancel(client.resolve_id(job))
    if as_json:
        print_json(canceled.raw)
    else:
        click.echo(f"{canceled.id}: {'canceled' if canceled.ended else 'stopping'}")
