"""`mmaudio retry`."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import click

from mmaudio_client.bulk_retry import RetryFilter
from mmaudio_client.cli import bulk_retry
from mmaudio_client.cli.error_output import print_error
from mmaudio_client.cli.exit_codes import ExitCode, exit_code_of, worst
from mmaudio_client.cli.metadata import metadata_pairs
from mmaudio_client.cli.output_folder import output_option
from mmaudio_client.cli.session import ServerCommand, with_server
from mmaudio_client.cli.single_job import check_output, finish, no_wait_option
from mmaudio_client.client import Client
from mmaudio_client.errors import ClientError, UnavailableError

FILTERS = ("code", "variant", "since", "before", "metadata", "limit", "dry_run", "yes")


@click.command(cls=ServerCommand)
@click.argument("jobs", nargs=-1, metavar="[JOB]...")
@click.option(
    "--state", type=click.Choice(["failed", "canceled"]), help="Retry all jobs in this state that match the filters."
)
@click.option("--code", metavar="CODE", help="With --state failed: only jobs with this error code.")
@click.option("--variant", metavar="NAME", help="With --state: only jobs of this model variant.")
@click.option(
    "--since", type=bulk_retry.Time(), metavar="TIME", help="With --state: only jobs created since (2h, 1d, ISO 8601)."
)
@click.option("--before", type=bulk_retry.Time(), metavar="TIME", help="With --state: only jobs created before.")
@click.option("--metadata", multiple=True, metavar="KEY=VALUE", help="With --state: only jobs with this pair.")
@click.option("--limit", type=click.IntRange(1), metavar="N", help="With --state: retry at most N jobs.")
@click.option("--dry-run", is_flag=True, help="With --state: print the jobs that would be retried, and do nothing.")
@click.option("--yes", is_flag=True, help="With --state: do not ask on a terminal.")
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="FIELD=VALUE",
    help="Change a field of the request, such as prompt=rain or seed=null (a new one); repeatable.",
)
@output_option
@no_wait_option
@with_server
def retry(
    client: Client,
    jobs: tuple[str, ...],
    state: Literal["failed", "canceled"] | None,
    code: str | None,
    variant: str | None,
    since: datetime | None,
    before: datetime | None,
    metadata: tuple[str, ...],
    limit: int | None,
    dry_run: bool,
    yes: bool,
    changes: tuple[str, ...],
    output: Path,
    no_wait: bool,
    as_json: bool,
) -> None:
    """Run each JOB (an id, or its beginning) again, as a new job with the same request and seed; save its files.

    The job must have ended: failed, canceled or succeeded.

    With --state instead: retry all jobs that match and print the new ids, without waiting. A job that has been retried
    before is not retried again, so the same command may be repeated.
    """
    if state is None:
        _refuse_filters(no_jobs=not jobs)
        check_output(output, no_wait=no_wait)
        _retry_each(client, jobs, output, changed_fields(changes), no_wait=no_wait, as_json=as_json)
        return
    if jobs:
        raise click.UsageError("Give either jobs or --state, not both.")
    if changes:
        raise click.UsageError("--set goes with jobs, not with --state.")
    if code is not None and state != "failed":
        raise click.UsageError("Only failed jobs have an error code; give --state failed with --code.")
    check_output(output, no_wait=True)  # the new jobs are not waited for
    wanted = RetryFilter(state, code, variant, since, before, metadata_pairs(metadata) or None)
    exit_code = bulk_retry.run(client, wanted, limit=limit, dry_run=dry_run, ask=not yes, as_json=as_json)
    raise click.exceptions.Exit(int(exit_code))


def _refuse_filters(*, no_jobs: bool) -> None:
    given = click.get_current_context().params
    filters = [f"--{name.replace('_', '-')}" for name in FILTERS if given[name]]
    if filters:
        raise click.UsageError(f"{', '.join(filters)} needs --state failed or --state canceled.")
    if no_jobs:
        raise click.UsageError("Nothing to retry: give a job, or --state failed.")


def changed_fields(given: tuple[str, ...]) -> dict[str, Any]:
    """Return the fields that options `FIELD=VALUE` name; a value that is JSON is read as such.

    Raises:
        click.UsageError: an option has another form.
    """
    fields: dict[str, Any] = {}
    for pair in given:
        name, equals, text = pair.partition("=")
        if not (name and equals):
            raise click.UsageError(f"Got --set {pair!r}; give FIELD=VALUE, such as prompt=rain.")
        try:
            fields[name] = json.loads(text)
        except ValueError:
            fields[name] = text
    return fields


def _retry_each(
    client: Client, jobs: tuple[str, ...], output: Path, changes: dict[str, Any], *, no_wait: bool, as_json: bool
) -> None:
    if len(jobs) == 1:
        finish(
            client, client.retry(client.resolve_id(jobs[0]), changes=changes), output, no_wait=no_wait, as_json=as_json
        )
        return
    ids = [client.resolve_id(job) for job in jobs]  # all, before the first is retried
    codes, made = [], []
    for job_id in ids:
        try:
            made.append(client.retry(job_id, changes=changes))
        except ClientError as exc:
            print_error(exc, as_json=as_json, input=job_id)
            codes.append(exit_code_of(exc))
            if isinstance(exc, UnavailableError):
                break
    for job in made:
        try:
            finish(client, job, output, no_wait=no_wait, as_json=as_json)
        except (ClientError, OSError) as exc:
            print_error(exc, as_json=as_json, input=job.id)
            codes.append(exit_code_of(exc))
    raise click.exceptions.Exit(int(worst(codes) if codes else ExitCode.OK))
