"""`mmaudio triggers list|add|remove|dry-run|backfill`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from mmaudio_client.cli.exit_codes import ASKING
from mmaudio_client.cli.progress_bar import ProgressBar
from mmaudio_client.cli.session import CommandGroup, ServerCommand, print_json, with_server
from mmaudio_client.cli.table import print_rows
from mmaudio_client.cli.text_width import one_line, printable_json
from mmaudio_client.client import Client

COUNTS = ("listed", "submitted", "duplicates", "skipped", "held")
HEADER = ("ID", "STATE", "OBJECTS", "SUFFIXES", "SUBMITTED", "SKIPPED", "HELD", "NAME")


@click.group(cls=CommandGroup)
def triggers() -> None:
    """Manage triggers: rules that create a job for each new object of a bucket."""


@triggers.command("list", cls=ServerCommand, exit_codes=ASKING, short_help="List triggers, newest first.")
@with_server
def list_(client: Client, as_json: bool) -> None:
    """List triggers, newest first, with how many of their events were submitted, skipped and held."""
    found = client.triggers.list()
    if as_json:
        for trigger in found:
            print_json(trigger)
        return
    rows = (
        (
            trigger["id"],
            trigger["state"],
            f"s3://{trigger['bucket']}/{trigger['prefix']}",
            " ".join(trigger["suffixes"]),
            *(trigger["events"][name] for name in ("submitted", "skipped", "held")),
            trigger["name"] or "",
        )
        for trigger in found
    )
    print_rows(HEADER, rows)


@triggers.command(cls=ServerCommand, exit_codes=ASKING, short_help="Create a trigger on BUCKET.")
@click.argument("bucket")
@click.option("--prefix", help="Key prefix to match.")
@click.option("--suffix", "suffixes", multiple=True, help="Key suffix to match, such as .mp4; repeatable.")
@click.option("--image", is_flag=True, help="The objects are images, not videos.")
@click.option(
    "--request", metavar="JSON", help='Other request fields of the jobs, as JSON, such as \'{"prompt": "rain"}\'.'
)
@click.option("--deliver-to", metavar="S3_URL", help="s3://bucket/prefix/ to which the results are also copied.")
@click.option("--name", help="Display name.")
@with_server
def add(
    client: Client,
    bucket: str,
    prefix: str | None,
    suffixes: tuple[str, ...],
    image: bool,
    request: str | None,
    deliver_to: str | None,
    name: str | None,
    as_json: bool,
) -> None:
    """Create a trigger on BUCKET and print its id."""
    trigger = client.triggers.add(
        bucket,
        prefix=prefix,
        suffixes=suffixes,
        source_field="image" if image else None,
        request=_parsed(request),
        deliver_to=deliver_to,
        name=name,
    )
    print_json(trigger) if as_json else click.echo(trigger["id"])


@triggers.command(cls=ServerCommand, exit_codes=ASKING, short_help="Remove TRIGGER.")
@click.argument("trigger")
@with_server
def remove(client: Client, trigger: str, as_json: bool) -> None:
    """Remove TRIGGER. Jobs that it created continue."""
    client.triggers.remove(trigger)
    if as_json:
        print_json({"id": trigger, "removed": True})


@triggers.command(
    "dry-run", cls=ServerCommand, exit_codes=ASKING, short_help="Show what TRIGGER would do with an object."
)
@click.argument("trigger")
@click.argument("key")
@with_server
def dry_run(client: Client, trigger: str, key: str, as_json: bool) -> None:
    """Show what TRIGGER would do with the object KEY, without doing it."""
    for one in client.triggers.dry_run(trigger, key):
        if as_json:
            print_json(one)
            continue
        click.echo(_action(one))
        if one["request"] is not None:
            click.echo(printable_json(one["request"]))


@triggers.command(
    cls=ServerCommand, exit_codes=ASKING, short_help="Create jobs for objects that are already in the bucket."
)
@click.argument("trigger")
@click.option("--prefix", help="Only keys that begin with this.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="Stop after N new jobs.")
@click.option("--dry-run", is_flag=True, help="Show what would be done with each object; create nothing.")
@with_server
def backfill(client: Client, trigger: str, prefix: str | None, limit: int | None, dry_run: bool, as_json: bool) -> None:
    """Create jobs for objects that are already in the bucket of TRIGGER, as if their events had just arrived.

    An object that the trigger has processed before creates no second job, so the command may be repeated.
    """
    total = dict.fromkeys(COUNTS, 0)
    try:
        with ProgressBar("listing", hidden=as_json or dry_run) as bar:
            for page in client.triggers.backfill(trigger, prefix=prefix, max_jobs=limit, dry_run=dry_run):
                total = {name: total[name] + page[name] for name in COUNTS}
                bar.show(total["listed"], _sentence(total, dry_run=dry_run))
                if as_json:
                    print_json(page)
                    continue
                for one in page["data"] or ():
                    click.echo(_action(one))
    finally:
        if not as_json and total["listed"]:
            click.echo(_sentence(total, dry_run=dry_run), err=dry_run)


def _sentence(total: Mapping[str, int], *, dry_run: bool) -> str:
    made = "would create" if dry_run else "created"
    return (
        f"{total['listed']} objects listed: {made} {total['submitted']} jobs; {total['duplicates']} processed before, "
        f"{total['skipped']} skipped, {total['held']} held"
    )


def _action(one: Mapping[str, Any]) -> str:
    known = " (already processed: nothing would be done)" if one["known"] else ""
    why = f": {one['reason']}" if one["reason"] else ""
    return one_line(f"{one['action']} s3://{one['bucket']}/{one['key']}{why}{known}")


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not allowed")


def _parsed(request: str | None) -> dict[str, Any] | None:
    if request is None:
        return None
    try:
        fields = json.loads(request, parse_constant=_refuse_constant)
    except ValueError as exc:
        raise click.BadParameter(f"it is not JSON: {exc}", param_hint="--request") from exc
    if not isinstance(fields, dict):
        raise click.BadParameter("it must be a JSON object", param_hint="--request")
    return fields
