"""What the HTTP commands share: where the server is, errors as sentences and exit codes, a live view of a job."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from mmaudio_client.client import DEFAULT_URL, Client
from mmaudio_client.errors import ClientError
from mmaudio_client.models import Job

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options that say where the server is; hand the command a client; turn its errors into sentences."""

    @click.option("--api-url", envvar="MMAUDIO_API_URL", default=DEFAULT_URL, show_default=True, help="The server.")
    @click.option("--api-key", envvar="MMAUDIO_API_KEY", help="The key, where the server wants one.")
    @functools.wraps(command)
    def wrapped(api_url: str, api_key: str | None, **arguments: Any) -> None:
        try:
            with Client(api_url, api_key=api_key) as client:
                command(client=client, **arguments)
        except ClientError as exc:
            raise click.ClickException(str(exc)) from exc
        except BrokenPipeError:
            raise  # `mmaudio list | head`: click ends quietly
        except OSError as exc:
            raise click.ClickException(f"{exc.strerror}: {exc.filename}" if exc.filename else str(exc)) from exc

    return wrapped


def describe(job: Job) -> str:
    """Return a job in one line."""
    if job.state == "queued":
        place = f" (place {job.queue_position})" if job.queue_position else ""
        return f"queued{place}"
    if job.state == "running":
        step = f" {job.step}/{job.raw['request']['num_steps']}" if job.step else ""
        eta_s = job.raw.get("eta_s")  # servers before 0.2 tell none
        rest = f", {eta_s:.0f} s left" if eta_s is not None else ""
        return f"{job.stage}{step}{rest}"
    return job.state


def follow(client: Client, job: Job) -> Job:
    """Show a job until it ends: a bar on a terminal, a line a change elsewhere. Return it as it ended."""
    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description:<26}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    try:
        # Not `is_terminal`: that is also true where FORCE_COLOR asks for colours in a file.
        if not console.file.isatty():
            return _follow_in_lines(client, job)
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task("", total=1.0)
            for state in client.watch(job, every_s=0.3):
                job = state
                bar.update(task, completed=job.progress, description=describe(job))
    except KeyboardInterrupt:
        click.echo(
            f"\nThe job goes on. See it with: mmaudio watch {job.id}   Stop it with: mmaudio cancel {job.id}", err=True
        )
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None
    return job


def _follow_in_lines(client: Client, job: Job) -> Job:
    said = ""
    for state in client.watch(job):
        job = state
        line = str(job.stage or job.state)
        if line != said:
            click.echo(f"{job.id}: {line}", err=True)
            said = line
    return job


def conclude(job: Job) -> None:
    """Say warnings, and leave with status 1 when the job did not succeed."""
    for warning in job.warnings:
        click.echo(f"Note: {warning}", err=True)
    if job.state == "failed":
        click.echo(f"The job failed: {job.error_message}", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)
    if job.state == "canceled":
        click.echo("The job was canceled.", err=True)
        raise click.exceptions.Exit(EXIT_FAILED)


def save(client: Client, job: Job, folder: Path, *, aside: bool = False) -> None:
    """Download a job's files and print their paths, one a line; `aside` where stdout is for something else."""
    for path in client.download(job, folder):
        click.echo(str(path), err=aside)
