"""`mmaudio watch`."""

from __future__ import annotations

import click

from mmaudio_client.cli.session import conclude, follow, with_server
from mmaudio_client.client import Client


@click.command()
@click.argument("job_id")
@with_server
def watch(client: Client, job_id: str) -> None:
    """Follow a job until it ends; the exit status is 0 when it succeeded."""
    job = follow(client, client.get(job_id))
    conclude(job)
    click.echo(f"{job.id}: {job.state}. Save its files with: mmaudio download {job.id}")
