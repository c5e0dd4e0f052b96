"""`mmaudio list`."""

from __future__ import annotations

from itertools import islice

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmaudio_client.cli.session import describe, with_server
from mmaudio_client.client import Client


@click.command("list")
@click.option("--state", type=click.Choice(["queued", "running", "succeeded", "failed", "canceled"]))
@click.option("--variant")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True)
@with_server
def list_(client: Client, state: str | None, variant: str | None, limit: int) -> None:
    """List jobs, newest first."""
    filters = {name: value for name, value in (("state", state), ("variant", variant)) if value}
    table = Table("id", "state", "variant", "created", "prompt", box=None)
    for job in islice(client.list(limit=min(limit, 200), **filters), limit):
        # Text, not markup: a prompt may hold square brackets.
        row = (
            job.id,
            describe(job),
            job.raw["request"]["variant"],
            job.raw["created_at"],
            job.raw["request"]["prompt"],
        )
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.file.isatty():
        console.width = 200
    console.print(table)
