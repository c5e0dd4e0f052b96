"""`mmaudio status`."""

from __future__ import annotations

import json

import click

from mmaudio_client.cli.session import describe, with_server
from mmaudio_client.client import Client


@click.command()
@click.argument("job_id")
@click.option("--json", "as_json", is_flag=True, help="Print the whole job as JSON.")
@with_server
def status(client: Client, job_id: str, as_json: bool) -> None:
    """Show a job."""
    job = client.get(job_id)
    if as_json:
        click.echo(json.dumps(job.raw))
        return
    click.echo(f"{job.id}: {describe(job)} ({job.progress:.0%}, attempt {job.attempt})")
    if job.error_message:
        click.echo(f"  {job.error_message}")
    for warning in job.warnings:
        click.echo(f"  note: {warning}")
    for artifact in job.artifacts:
        click.echo(f"  {artifact.name}  {artifact.duration_s:.2f} s  {artifact.size_bytes} bytes")
