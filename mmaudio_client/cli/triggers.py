"""`mmaudio triggers list|add|remove|dry-run`."""

from __future__ import annotations

import json
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mmaudio_client.cli.session import with_server
from mmaudio_client.client import Client


@click.group()
def triggers() -> None:
    """Rules that turn new objects of a bucket into jobs."""


@triggers.command("list")
@with_server
def list_(client: Client) -> None:
    """List triggers, newest first, with what became of their events."""
    table = Table("id", "state", "objects", "suffixes", "submitted", "skipped", "held", "name", box=None)
    for trigger in client.triggers.list():
        counts = trigger["events"]
        row = (
            trigger["id"],
            trigger["state"],
            f"s3://{trigger['bucket']}/{trigger['prefix']}",
            " ".join(trigger["suffixes"]),
            *(counts[name] for name in ("submitted", "skipped", "held")),
            trigger["name"] or "",
        )
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.file.isatty():
        console.width = 200
    console.print(table)


@triggers.command()
@click.argument("bucket")
@click.option("--prefix", default="", help="Only keys that begin so.")
@click.option("--suffix", "suffixes", multiple=True, help="Only keys that end so; may be given again.")
@click.option("--image", is_flag=True, help="The objects are pictures, not videos.")
@click.option("--request", help='The jobs\' other fields as JSON, such as \'{"prompt": "rain"}\'.')
@click.option("--output", help="s3://bucket/prefix/ to deliver to.  [default: the platform's own storage]")
@click.option("--name", help="For people.")
@with_server
def add(
    client: Client,
    bucket: str,
    prefix: str,
    suffixes: tuple[str, ...],
    image: bool,
    request: str | None,
    output: str | None,
    name: str | None,
) -> None:
    """Make a trigger on BUCKET; prints its id."""
    fields: dict[str, Any] = {"prefix": prefix, "suffixes": list(suffixes), "request": _parsed(request)}
    if image:
        fields["source_field"] = "image"
    fields |= {key: value for key, value in (("output", output), ("name", name)) if value is not None}
    click.echo(client.triggers.add(bucket, **fields)["id"])


@triggers.command()
@click.argument("trigger")
@with_server
def remove(client: Client, trigger: str) -> None:
    """Remove a trigger. Its jobs go on."""
    client.triggers.remove(trigger)


@triggers.command("dry-run")
@click.argument("trigger")
@click.argument("key")
@with_server
def dry_run(client: Client, trigger: str, key: str) -> None:
    """Show what a trigger would do with the object KEY; makes nothing."""
    for one in client.triggers.dry_run(trigger, key):
        known = " (known already: nothing would be done)" if one["known"] else ""
        why = f": {one['reason']}" if one["reason"] else ""
        click.echo(f"{one['action']} s3://{one['bucket']}/{one['key']}{why}{known}")
        if one["request"] is not None:
            click.echo(json.dumps(one["request"], ensure_ascii=False, indent=2))


def _parsed(request: str | None) -> dict[str, Any]:
    if request is None:
        return {}
    try:
        fields = json.loads(request)
    except ValueError as exc:
        raise click.BadParameter(f"it is not JSON: {exc}", param_hint="--request") from exc
    if not isinstance(fields, dict):
        raise click.BadParameter("it must be a JSON object", param_hint="--request")
    return fields
