"""A job on the terminal: one line about it, a live view until it ends, and how it ended."""

from __future__ import annotations

import click

from mmaudio_client.cli.error_output import InterruptedWaitError
from mmaudio_client.cli.progress_bar import ALL_DONE, ProgressBar
from mmaudio_client.client import Client
from mmaudio_client.errors import JobCanceledError, JobFailedError, UnavailableError
from mmaudio_client.models import Job

_DOING = {
    "fetch": "fetching its input",
    "decode": "decoding",
    "encode": "encoding",
    "sample": "sampling",
    "vocode": "vocoding",
    "mux": "muxing",
    "upload": "uploading its files",
}


def describe(job: Job) -> str:
    """Return a job's state in a few words."""
    if job.state == "queued":
        return f"queued (position {job.queue_position})" if job.queue_position else "queued"
    if job.state == "running":
        step = f" {job.step}/{job.request.num_steps}" if job.step and job.request.num_steps else ""
        left = f", {job.eta_s:.0f} s left" if job.eta_s is not None else ""
        return f"{job.stage or 'running'}{step}{left}"
    return job.state


def in_a_sentence(job: Job) -> str:
    """Return what a job does, to go after "it is"."""
    if job.state != "running":
        return describe(job)
    step = f" (step {job.step}/{job.request.num_steps})" if job.step and job.request.num_steps else ""
    left = f", about {job.eta_s:.0f} s left" if job.eta_s is not None else ""
    return f"{_DOING.get(job.stage or '', 'running')}{step}{left}"


def follow(client: Client, job: Job, *, quiet: bool = False) -> Job:
    """Show a job until it ends, and return it: a bar on a terminal, else a line for each change; `quiet`: nothing.

    Raises:
        InterruptedWaitError: Ctrl-C.
        UnavailableError: the server was away for too long.
    """
    try:
        if quiet:
            return [*client.watch(job)][-1]
        with ProgressBar("", ALL_DONE) as bar:
            return _follow_with_bar(client, job, bar) if bar.visible else _follow_in_lines(client, job)
    except KeyboardInterrupt:
        raise InterruptedWaitError(
            f"Interrupted. The job continues. Follow it: mmaudio watch {job.id}  Cancel it: mmaudio cancel {job.id}"
        ) from None
    except UnavailableError as exc:
        raise type(exc)(f"{exc} Follow it: mmaudio watch {job.id}") from exc


def conclude(job: Job, *, quiet: bool = False) -> None:
    """Print the warnings of an ended job, and raise when it did not succeed.

    Raises:
        JobFailedError, JobCanceledError: it did not.
    """
    if not quiet:
        for warning in job.warnings:
            click.echo(f"Warning: {warning}", err=True)
    if job.state == "failed":
        raise JobFailedError(job)
    if job.state == "canceled":
        raise JobCanceledError(job)


def _follow_with_bar(client: Client, job: Job, bar: ProgressBar) -> Job:
    for current in client.watch(job, every_s=0.3):
        job = current
        bar.show(job.progress, describe(job))
    return job


def _follow_in_lines(client: Client, job: Job) -> Job:
    shown = ""
    for current in client.watch(job):
        job = current
        line = str(job.stage or job.state)
        if line != shown:
            click.echo(f"{job.id}: {line}", err=True)
            shown = line
    return job
