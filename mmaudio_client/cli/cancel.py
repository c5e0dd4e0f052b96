"""`mmaudio cancel`."""

from __future__ import annotations

import click

from mmaudio_client.cli.session import with_server
from mmaudio_client.client import Client


@click.command()
@click.argument("job_id")
@with_server
def cancel(client: Client, job_id: str) -> None:
    """Cancel a job. A running one stops within one sampling step."""
    job = client.cancel(job_id)
    click.echo(f"{job.id}: {'canceled' if job.ended else 'stopping'}")
