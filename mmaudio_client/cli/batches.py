"""`mmaudio batches`."""

from __future__ import annotations

from pathlib import Path

import click

from mmaudio_client.batches import Batch
from mmaudio_client.cli.error_output import InterruptedWaitError
from mmaudio_client.cli.exit_codes import ASKING, WATCHING, ExitCode
from mmaudio_client.cli.json_files import read_requests
from mmaudio_client.cli.metadata import metadata_pairs
from mmaudio_client.cli.progress_bar import ALL_DONE, ProgressBar
from mmaudio_client.cli.session import CommandGroup, ServerCommand, print_json, with_server
from mmaudio_client.cli.table import print_rows
from mmaudio_client.client import Client

HEADER = ("ID", "STATE", "JOBS", "CREATED", "NAME")


@click.group(cls=CommandGroup)
def batches() -> None:
    """Create and follow batches: many jobs by one call, all of them or none."""


@batches.command(cls=ServerCommand, exit_codes=ASKING, short_help="Create a batch of jobs from a file of requests.")
@click.argument("file", type=click.Path(path_type=Path, allow_dash=True))
@click.option("--name", metavar="TEXT", help="Display name.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Store a pair with the batch; repeatable.")
@click.option("--webhook-url", metavar="URL", help="URL that the server calls once all jobs have ended.")
@click.option("--idempotency-key", metavar="KEY", help="Two calls with one key create one batch.")
@with_server
def create(
    client: Client,
    file: Path,
    name: str | None,
    metadata: tuple[str, ...],
    webhook_url: str | None,
    idempotency_key: str | None,
    as_json: bool,
) -> None:
    """Create a job for each request in FILE and print the batch's id: a JSON array, or a JSON object a line.

    Local files that requests name as video or image are uploaded first. -: the standard input.
    """
    requests = read_requests(file)
    batch = client.batches.create(
        requests,
        name=name,
        metadata=metadata_pairs(metadata) or None,
        webhook_url=webhook_url,
        idempotency_key=idempotency_key,
    )
    print_json(batch.raw) if as_json else click.echo(batch.id)


@batches.command("list", cls=ServerCommand, exit_codes=ASKING, short_help="List batches, newest first.")
@with_server
def list_(client: Client, as_json: bool) -> None:
    """List batches, newest first."""
    found = client.batches.list()
    if as_json:
        for batch in found:
            print_json(batch.raw)
        return
    rows = ((one.id, one.state, one.total, f"{one.created_at:%Y-%m-%dT%H:%M:%SZ}", one.name or "") for one in found)
    print_rows(HEADER, rows)


@batches.command(cls=ServerCommand, exit_codes=ASKING, short_help="Show how far a batch is.")
@click.argument("batch")
@with_server
def status(client: Client, batch: str, as_json: bool) -> None:
    """Show how many jobs of BATCH are in each state."""
    _print(client.batches.get(batch), as_json=as_json)


@batches.command(cls=ServerCommand, exit_codes=WATCHING, short_help="Follow a batch until all its jobs have ended.")
@click.argument("batch")
@with_server
def watch(client: Client, batch: str, as_json: bool) -> None:
    """Follow BATCH until all its jobs have ended; 1 when one failed, else 4 when one was canceled."""
    try:
        with ProgressBar("", ALL_DONE, hidden=as_json) as bar:
            for current in client.batches.watch(batch):
                bar.show(current.progress, f"{_ended(current)} of {current.total} jobs")
    except KeyboardInterrupt:
        raise InterruptedWaitError(f"Interrupted. The batch continues: mmaudio batches watch {batch}") from None
    _print(current, as_json=as_json)
    failed, canceled = current.counts.get("failed", 0), current.counts.get("canceled", 0)
    code = ExitCode.FAILED if failed else ExitCode.CANCELED if canceled else ExitCode.OK
    raise click.exceptions.Exit(int(code))


@batches.command(cls=ServerCommand, exit_codes=ASKING, short_help="Cancel the jobs of a batch.")
@click.argument("batch")
@with_server
def cancel(client: Client, batch: str, as_json: bool) -> None:
    """Cancel the jobs of BATCH that have not ended."""
    _print(client.batches.cancel(batch), as_json=as_json)


def _ended(batch: Batch) -> int:
    return sum(batch.counts.get(state, 0) for state in ("succeeded", "failed", "canceled"))


def _print(batch: Batch, *, as_json: bool) -> None:
    if as_json:
        print_json(batch.raw)
        return
    counts = ", ".join(f"{count} {state}" for state, count in batch.counts.items() if count)
    click.echo(f"{batch.id}: {batch.state} ({batch.progress:.0%}), {batch.total} jobs: {counts}")
