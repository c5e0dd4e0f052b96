"""`mmaudio delete`."""

from __future__ import annotations

import sys

import click

from mmaudio_client.cli.error_output import InterruptedWaitError, print_error
from mmaudio_client.cli.exit_codes import ASKING, ExitCode, exit_code_of, worst
from mmaudio_client.cli.session import ServerCommand, print_json, with_server
from mmaudio_client.client import Client
from mmaudio_client.errors import ClientError, UnavailableError


@click.command(cls=ServerCommand, exit_codes=ASKING)
@click.argument("jobs", nargs=-1, required=True, metavar="JOB...")
@click.option("--yes", is_flag=True, help="Do not ask on a terminal.")
@with_server
def delete(client: Client, jobs: tuple[str, ...], yes: bool, as_json: bool) -> None:
    """Delete the files of each JOB (an id, or its beginning), and what is known of it. Only ended jobs can be deleted.

    Copies in a bucket of one's own (--deliver-to) stay. This cannot be undone.
    """
    ids = [*dict.fromkeys(client.resolve_id(job) for job in jobs)]  # all, before the first is deleted
    if not yes and not as_json and _asks() and not _confirmed(ids):
        click.echo("Nothing was deleted.", err=True)
        return
    codes = []
    for job_id in ids:
        try:
            client.delete(job_id)
        except ClientError as exc:
            print_error(exc, as_json=as_json, input=job_id)
            codes.append(exit_code_of(exc))
            if isinstance(exc, UnavailableError):
                break
            continue
        print_json({"id": job_id, "deleted": True}) if as_json else click.echo(f"{job_id}: deleted")
    raise click.exceptions.Exit(int(worst(codes) if codes else ExitCode.OK))


def _asks() -> bool:
    return sys.stdin.isatty()


def _confirmed(ids: list[str]) -> bool:
    what = ids[0] if len(ids) == 1 else f"{len(ids)} jobs"
    try:
        return click.confirm(f"Delete {what} and all files?", err=True)
    except click.Abort:  # Ctrl-C
        raise InterruptedWaitError("Interrupted; nothing was deleted.") from None
