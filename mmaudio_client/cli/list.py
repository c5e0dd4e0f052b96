"""`mmaudio list`."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from itertools import chain, islice

import click

from mmaudio_client.calls.jobs import MAX_PAGE, Filter
from mmaudio_client.cli.exit_codes import ASKING
from mmaudio_client.cli.job_view import describe
from mmaudio_client.cli.metadata import metadata_pairs
from mmaudio_client.cli.session import ServerCommand, print_json, with_server
from mmaudio_client.cli.table import print_rows
from mmaudio_client.client import Client
from mmaudio_client.models import Job

HEADER = ("ID", "STATE", "VARIANT", "AGE", "PROMPT")


@click.command("list", cls=ServerCommand, exit_codes=ASKING)
@click.option(
    "--state",
    "states",
    multiple=True,
    type=click.Choice(["queued", "running", "succeeded", "failed", "canceled"]),
    help="Show only jobs in this state; repeatable.",
)
@click.option("--variant", metavar="NAME", help="Show only jobs of this model variant.")
@click.option("--code", metavar="CODE", help="Show only jobs that failed with this error code.")
@click.option("--query", metavar="TEXT", help="Show only jobs with this text in prompt, input name or metadata.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="Show only jobs with this pair; repeatable.")
@click.option("--counts", is_flag=True, help="Show how many jobs are in each state instead.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show at most this many jobs.")
@with_server
def list_(
    client: Client,
    states: tuple[str, ...],
    variant: str | None,
    code: str | None,
    query: str | None,
    metadata: tuple[str, ...],
    counts: bool,
    limit: int,
    as_json: bool,
) -> None:
    """List jobs, newest first.

    In a pipe: one line per job without a header, columns separated by tabs (id, state, variant, created, prompt).
    """
    given = {"state": ",".join(states), "variant": variant, "code": code, "q": query}
    filters: dict[str, Filter] = {name: value for name, value in given.items() if value}
    filters |= {f"metadata.{key}": value for key, value in metadata_pairs(metadata).items()}
    if counts:
        _print_counts(client, filters, as_json=as_json)
        return
    jobs: Iterator[Job] = islice(client.list(limit=min(limit, MAX_PAGE), **filters), limit)
    first = next(jobs, None)
    if first is None:
        if variant is not None:
            _check_variant(client, variant)
    else:
        jobs = chain([first], jobs)
    if as_json:
        for job in jobs:
            print_json(job.raw)
        return
    now = datetime.now(UTC) if sys.stdout.isatty() else None
    rows = (
        (job.id, describe(job), job.request.variant or "", _created(job.created_at, now), job.request.prompt)
        for job in jobs
    )
    print_rows(HEADER, rows)


def _print_counts(client: Client, filters: Mapping[str, Filter], *, as_json: bool) -> None:
    if filters:
        raise click.UsageError("--counts counts all jobs; it goes with no filter.")
    found = client.counts()
    if as_json:
        print_json(found)
        return
    for state, count in found.items():
        click.echo(f"{state}\t{count}")


def _check_variant(client: Client, variant: str) -> None:
    """Refuse a variant of which there are no jobs and which the server does not know."""
    known = [str(one["name"]) for one in client.variants()]
    if variant not in known:
        raise click.BadParameter(
            f"The server has no variant {variant!r}; it has: {', '.join(known)}.", param_hint="'--variant'"
        )


def _created(time: datetime, now: datetime | None) -> str:
    """Return a time of creation as a short age, which leaves room for the prompt; without `now`: in full."""
    if now is None:
        return f"{time:%Y-%m-%dT%H:%M:%SZ}"
    seconds = max(0, int((now - time).total_seconds()))
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"
