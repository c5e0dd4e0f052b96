"""What `submit` of one input and `retry` do with their new job: print its id, or wait for it and save its files."""

from __future__ import annotations

from pathlib import Path

import click
from click.core import ParameterSource

from mmaudio_client.cli.error_output import InterruptedWaitError
from mmaudio_client.cli.job_view import conclude, follow
from mmaudio_client.cli.output_folder import prepare_folder
from mmaudio_client.cli.session import print_json
from mmaudio_client.client import Client
from mmaudio_client.models import Job

no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Print the job's id and exit; `mmaudio download` saves the files later."
)


def check_output(output: Path, *, no_wait: bool) -> None:
    """Check the options for results before anything is sent.

    Raises:
        click.UsageError: the folder cannot be written to, or is given although nothing will be saved.
    """
    if not no_wait:
        prepare_folder(output)
    elif click.get_current_context().get_parameter_source("output") is not ParameterSource.DEFAULT:
        raise click.UsageError("--no-wait saves nothing, so --output has no effect; give one of them.")


def finish(client: Client, job: Job, output: Path, *, no_wait: bool, as_json: bool, name: str | None = None) -> None:
    """Wait for a job, save its files and print their paths; `no_wait`: only print its id.

    Args:
        name: what to name the files after; default: the job's input.

    Raises:
        JobFailedError, JobCanceledError: it did not succeed.
        DownloadError, OSError: a file could not be saved.
    """
    if no_wait:
        print_json(job.raw) if as_json else click.echo(job.id)
        return
    job = follow(client, job, quiet=as_json)
    if as_json and job.state != "succeeded":
        print_json(job.raw)
    conclude(job, quiet=as_json)
    saved = _saved(client, job, output, name)
    if as_json:
        print_json({**job.raw, "saved_files": [str(path) for path in saved]})
        return
    for path in saved:
        click.echo(str(path))


def _saved(client: Client, job: Job, output: Path, name: str | None) -> tuple[Path, ...]:
    try:
        return client.download(job, output, name=name)
    except KeyboardInterrupt:
        raise InterruptedWaitError(
            f"Interrupted. The job has succeeded. Save its files: mmaudio download {job.id}"
        ) from None
