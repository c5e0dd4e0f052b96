"""`mmaudio webhooks list|create|enable|delete|secret|rotate|test|deliveries|replay|listen`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import islice
from typing import Any

import click

from mmaudio_client.cli.exit_codes import ASKING
from mmaudio_client.cli.session import ServerCommand, json_usage_errors, print_json, with_server
from mmaudio_client.cli.table import print_rows
from mmaudio_client.cli.text_width import one_line
from mmaudio_client.client import Client
from mmaudio_client.webhook_forwarding import Forwarded, Forwarder

ENDPOINTS = ("ID", "STATE", "EVENTS", "FAILING SINCE", "URL")
DELIVERIES = ("ID", "STATE", "EVENT", "TRIES", "STATUS", "JOB", "CREATED", "URL")
EVENTS = ("started", "progress", "succeeded", "failed", "canceled", "batch_finished")
TIMES = click.DateTime(["%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d"])


class _Group(click.Group):
    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        with json_usage_errors(args):
            return super().resolve_command(ctx, args)


@click.group(cls=_Group)
def webhooks() -> None:
    """Manage webhooks: URLs that the server calls when jobs start, progress and end."""


@webhooks.command("list", cls=ServerCommand, exit_codes=ASKING, short_help="List endpoints, newest first.")
@with_server
def list_(client: Client, as_json: bool) -> None:
    """List endpoints, newest first: whether they are enabled, and since when they fail."""
    found = client.webhooks.endpoints()
    if as_json:
        for endpoint in found:
            print_json(endpoint)
        return
    rows = ((one["id"], one["state"], " ".join(one["events"]), one["failing_since"] or "", one["url"]) for one in found)
    print_rows(ENDPOINTS, rows)


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Create an endpoint for URL.")
@click.argument("url")
@click.option(
    "--event",
    "events",
    multiple=True,
    type=click.Choice(EVENTS),
    help="Event to receive; repeatable. Default: the ends of jobs and batches.",
)
@click.option("--description", help="Text for people.")
@with_server
def create(client: Client, url: str, events: tuple[str, ...], description: str | None, as_json: bool) -> None:
    """Create an endpoint for URL; print its id and the secret that verifies the signatures."""
    made = client.webhooks.create(url, events=events or None, description=description)
    print_json(made) if as_json else click.echo(f"{made['id']}\n{made['secret']}")


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Enable ENDPOINT again.")
@click.argument("endpoint")
@with_server
def enable(client: Client, endpoint: str, as_json: bool) -> None:
    """Enable ENDPOINT again. What was dropped meanwhile can be replayed."""
    changed = client.webhooks.update(endpoint, enabled=True)
    if as_json:
        print_json(changed)


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Delete ENDPOINT.")
@click.argument("endpoint")
@with_server
def delete(client: Client, endpoint: str, as_json: bool) -> None:
    """Delete ENDPOINT and its deliveries; what is pending is not sent."""
    client.webhooks.delete(endpoint)
    if as_json:
        print_json({"id": endpoint, "deleted": True})


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Print a secret.")
@click.argument("endpoint", required=False)
@with_server
def secret(client: Client, endpoint: str | None, as_json: bool) -> None:
    """Print the secret of ENDPOINT; without it that of the URLs that jobs name themselves."""
    _print_secret(client.webhooks.secret(endpoint), as_json=as_json)


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Make and print a new secret.")
@click.argument("endpoint", required=False)
@click.option(
    "--overlap",
    "overlap_s",
    type=click.IntRange(0),
    metavar="SECONDS",
    help="Sign with the previous secret as well for this long. Default: one day.",
)
@with_server
def rotate(client: Client, endpoint: str | None, overlap_s: int | None, as_json: bool) -> None:
    """Make and print a new secret of ENDPOINT; without it one of the URLs that jobs name themselves."""
    _print_secret(client.webhooks.rotate(endpoint, overlap_s=overlap_s), as_json=as_json)


def _print_secret(value: str, *, as_json: bool) -> None:
    print_json({"secret": value}) if as_json else click.echo(value)


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Send a test to ENDPOINT.")
@click.argument("endpoint")
@with_server
def test(client: Client, endpoint: str, as_json: bool) -> None:
    """Send a test to ENDPOINT and print the id of its delivery."""
    delivery = client.webhooks.test(endpoint)
    print_json(delivery) if as_json else click.echo(delivery["id"])


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Show the delivery log, newest first.")
@click.option("--endpoint", metavar="ID", help="Show only deliveries to this endpoint.")
@click.option(
    "--state",
    type=click.Choice(["pending", "delivered", "failed", "dropped"]),
    help="Show only deliveries in this state.",
)
@click.option("--job", metavar="ID", help="Show only deliveries about this job.")
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="Show at most this many.")
@with_server
def deliveries(
    client: Client, endpoint: str | None, state: str | None, job: str | None, limit: int, as_json: bool
) -> None:
    """Show the delivery log, newest first."""
    found = islice(client.webhooks.deliveries(endpoint_id=endpoint, state=state, job_id=job), limit)
    if as_json:
        for delivery in found:
            print_json(delivery)
        return
    rows = (
        (
            one["id"],
            one["state"],
            one["event"],
            one["tries"],
            one["last_status"] or "",
            one["job_id"] or "",
            one["created_at"],
            one["url"],
        )
        for one in found
    )
    print_rows(DELIVERIES, rows)


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Send deliveries again.")
@click.argument("delivery", nargs=-1)
@click.option("--failed-since", type=TIMES, metavar="TIME", help="All that were not delivered since this time (UTC).")
@click.option("--endpoint", metavar="ID", help="With --failed-since: only to this endpoint.")
@with_server
def replay(
    client: Client, delivery: Sequence[str], failed_since: datetime | None, endpoint: str | None, as_json: bool
) -> None:
    """Send each DELIVERY again, or all that were not delivered since a time.

    The receiver sees the `webhook-id` of before.
    """
    if bool(delivery) == (failed_since is not None):
        raise click.UsageError("Give ids of deliveries, or --failed-since.")
    if endpoint is not None and failed_since is None:
        raise click.UsageError("--endpoint needs --failed-since.")
    for delivery_id in delivery:
        again = client.webhooks.replay(delivery_id)
        if as_json:
            print_json(again)
    if failed_since is not None:
        count = client.webhooks.replay_failed(failed_since.replace(tzinfo=UTC), endpoint_id=endpoint)
        print_json({"replayed": count}) if as_json else click.echo(f"{count} deliveries are sent again")


@webhooks.command(cls=ServerCommand, exit_codes=ASKING, short_help="Show webhooks as they happen, and forward them.")
@click.option("--forward-to", metavar="URL", help="Send each to this URL, signed, such as http://localhost:3000/hooks.")
@click.option("--event", "events", multiple=True, type=click.Choice(EVENTS), help="Only this event; repeatable.")
@click.option(
    "--secret",
    envvar="MMAUDIO_WEBHOOK_SECRET",
    show_envvar=True,
    help="Secret that signs what is forwarded. Default: a new one, which is printed.",
)
@click.option("--after", metavar="EVENT_ID", help="Begin after this event instead of now.")
@with_server
def listen(
    client: Client,
    forward_to: str | None,
    events: tuple[str, ...],
    secret: str | None,
    after: str | None,
    as_json: bool,
) -> None:
    """Show what endpoints would receive, as it happens, until Ctrl-C; the server need not reach this machine.

    With --forward-to each message is also sent to a URL of yours, signed like a webhook. What it does not accept is
    not sent again.
    """
    if forward_to is None:
        for message in _wanted(client, events, after):
            _show(message, None, as_json=as_json)
        return
    try:
        forwarder = Forwarder(forward_to, secret=secret)
    except ValueError as exc:
        raise click.BadParameter(str(exc), param_hint="'--secret'") from exc
    with forwarder:
        if secret is None:
            click.echo(
                json.dumps({"secret": forwarder.secret}) if as_json else f"Signed with {forwarder.secret}", err=True
            )
        for message in _wanted(client, events, after):
            _show(message, forwarder.forward(message), as_json=as_json)


def _wanted(client: Client, events: tuple[str, ...], after: str | None) -> Any:
    for message in client.webhooks.listen(after=after):
        if not events or message["event"] in events:
            yield message


def _show(message: Mapping[str, Any], forwarded: Forwarded | None, *, as_json: bool) -> None:
    body = json.loads(message["body"])
    if as_json:
        result = None if forwarded is None else {"status": forwarded.status, "error": forwarded.error}
        print_json({"id": message["id"], "event": message["event"], "body": body, "forwarded": result})
        return
    subject, outcome = message["job_id"] or message["batch_id"], ""
    if forwarded is not None:
        outcome = f" -> {forwarded.status}" if forwarded.error is None else f" -> not sent: {forwarded.error}"
    click.echo(one_line(f"{body['timestamp']} {body['type']} {subject}{outcome}"))
