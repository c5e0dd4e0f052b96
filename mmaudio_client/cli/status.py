"""`mmaudio status`."""

from __future__ import annotations

import click

from mmaudio_client.cli.exit_codes import ASKING
from mmaudio_client.cli.job_view import describe
from mmaudio_client.cli.session import ServerCommand, print_json, with_server
from mmaudio_client.cli.text_width import one_line
from mmaudio_client.client import Client


@click.command(cls=ServerCommand, exit_codes=ASKING)
@click.argument("job")
@with_server
def status(client: Client, job: str, as_json: bool) -> None:
    """Show JOB (an id, or its beginning). The exit code is 0 in whatever state the job is."""
    found = client.get(client.resolve_id(job))
    if as_json:
        print_json(found.raw)
        return
    click.echo(f"{found.id}: {describe(found)} ({found.progress:.0%}, attempt {found.attempt})")
    if found.request.prompt:
        click.echo(f"  prompt: {one_line(found.request.prompt)}")
    if found.error is not None:
        click.echo(f"  error: {found.error} ({found.error.code})")
    for warning in found.warnings:
        click.echo(f"  warning: {warning}")
    for artifact in found.artifacts:
        expired = ", expired" if artifact.url is None else ""
        click.echo(f"  {artifact.name}: {artifact.duration_s:.2f} s, {artifact.size_bytes} bytes{expired}")
