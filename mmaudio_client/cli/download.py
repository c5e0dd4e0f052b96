"""`mmaudio download`."""

from __future__ import annotations

from pathlib import Path

import click

from mmaudio_client.cli.session import describe, save, with_server
from mmaudio_client.client import Client


@click.command()
@click.argument("job_id")
@click.option("--output", type=click.Path(path_type=Path, file_okay=False), default=Path(), help="Where to save.")
@with_server
def download(client: Client, job_id: str, output: Path) -> None:
    """Save the files of a job."""
    job = client.get(job_id)
    if not job.artifacts:
        raise click.ClickException(f"Job {job_id} has no files: it is {describe(job)}.")
    save(client, job, output)
