"""`mmaudio logs`."""

from __future__ import annotations

from collections.abc import Iterator

import click

from mmaudio_client.cli.exit_codes import ASKING
from mmaudio_client.cli.session import ServerCommand, print_json, with_server
from mmaudio_client.cli.text_width import one_line
from mmaudio_client.client import Client
from mmaudio_client.models import Event


@click.command(cls=ServerCommand, exit_codes=ASKING)
@click.argument("job", required=False)
@click.option(
    "-f", "--follow", is_flag=True, help="Go on with new events: until JOB has ended, without JOB until Ctrl-C."
)
@click.option("--after", type=click.IntRange(0), metavar="ID", help="Only events after this one.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND", help="Only events of this kind; repeatable.")
@with_server
def logs(
    client: Client, job: str | None, follow: bool, after: int | None, kinds: tuple[str, ...], as_json: bool
) -> None:
    """Show the events of JOB (an id, or its beginning), oldest first; without JOB those of all jobs.

    \b
    Each line has the event's id, its time, the job and what happened.
    """
    wanted = [*kinds] or None
    for event in _events(client, job, follow, after, wanted):
        if as_json:
            print_json(event.raw)
        else:
            click.echo(line_of(event))


def _events(
    client: Client, job: str | None, follow: bool, after: int | None, kinds: list[str] | None
) -> Iterator[Event]:
    job_id = client.resolve_id(job) if job is not None else None
    if not follow:
        return client.stored_events(job_id, after=after or 0, kinds=kinds)
    if job_id is None:
        return client.all_events(after=after, kinds=kinds)
    return client.events(job_id, after=after or 0, kinds=kinds, progress=False)


def line_of(event: Event) -> str:
    """Return an event as a line."""
    number = "-" if event.id is None else str(event.id)
    return one_line(f"{number} {event.created_at:%Y-%m-%dT%H:%M:%SZ} {event.job_id} {_text(event)}")


def _text(event: Event) -> str:
    data, error = event.data, event.data.get("error")
    if isinstance(error, dict):
        return f"{event.kind}: {error.get('message')} ({error.get('code')})"
    match event.kind:
        case "running" if "worker" in data:
            return f"running: attempt {event.attempt} on {data['worker']}"
        case "queued" if data.get("retry_of"):
            return f"queued: retry of {data['retry_of']}"
        case "queued" if event.attempt:
            return f"queued: again after attempt {event.attempt}"
        case "stage":
            return f"stage: {data.get('stage')}"
        case _:
            return event.kind
