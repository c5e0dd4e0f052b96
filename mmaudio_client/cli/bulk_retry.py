"""`mmaudio retry --state ...`: retries the jobs that match a filter, after a question on a terminal."""

from __future__ import annotations

import re
import sys
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from mmaudio_client.bulk_retry import BulkRetry, RetryFilter
from mmaudio_client.cli.error_output import InterruptedWaitError
from mmaudio_client.cli.exit_codes import ExitCode
from mmaudio_client.cli.progress_bar import ProgressBar
from mmaudio_client.cli.session import print_json
from mmaudio_client.cli.text_width import one_line
from mmaudio_client.client import Client
from mmaudio_client.errors import ClientError

COUNTED_JOBS = 1_000
"""Jobs that are counted for the question; to count a million would take minutes."""
_AGE = re.compile(r"(\d{1,9})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


class Time(click.types.StringParamType):
    """A time: ISO 8601 (without a zone: this machine's), or how long ago, such as `2h`."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, datetime):
            return value
        text = str(value)
        try:
            if match := _AGE.fullmatch(text):
                return datetime.now(UTC) - timedelta(**{_UNITS[match[2]]: int(match[1])})
            return datetime.fromisoformat(text).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{text!r} is not a time; give 30m, 2h, 1d or 2026-01-31T12:00.", param, ctx)


def run(client: Client, wanted: RetryFilter, *, limit: int | None, dry_run: bool, ask: bool, as_json: bool) -> ExitCode:
    """Retry the matching jobs, print each new id and a summary, and return the exit code.

    Args:
        ask: show how many jobs match and ask, on a terminal.
    """
    total = None
    if ask and not dry_run and _asks():
        total, more = _count(client, wanted, limit)
        number = f"{total} or more" if more else str(total)
        if total and not _confirmed(f"Retry {number} {wanted.state} jobs?"):
            click.echo("Nothing was retried.", err=True)
            return ExitCode.OK
        total = None if more else total
    done: list[BulkRetry] = []
    try:
        _with_progress(client, wanted, limit, dry_run, total, as_json, done)
    except KeyboardInterrupt:
        made = sum(len(page.retried) for page in done)
        raise InterruptedWaitError(
            f"Interrupted after {made} jobs; the new jobs continue. The same command retries the others: "
            "no job is retried twice."
        ) from None
    except ClientError:
        if done and not as_json:
            click.echo(_summary(done, wanted, dry_run=dry_run), err=True)
        raise
    skipped = sum(len(page.skipped) for page in done)
    if not as_json:
        click.echo(_summary(done, wanted, dry_run=dry_run), err=True)
    stopped = any(page.stopped is not None for page in done)
    return ExitCode.REFUSED if (stopped or skipped) and not dry_run else ExitCode.OK


def _asks() -> bool:
    return sys.stdin.isatty()


def _confirmed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # Ctrl-C
        raise InterruptedWaitError("Interrupted; nothing was retried.") from None


def _count(client: Client, wanted: RetryFilter, limit: int | None) -> tuple[int, bool]:
    """Return how many jobs would be retried, and whether there may be more than were counted."""
    most = COUNTED_JOBS if limit is None else min(limit, COUNTED_JOBS)
    result = client.retry_all(**asdict(wanted), dry_run=True, limit=most)
    count = len(result.retried)
    return count, count >= most and most != limit


def _with_progress(
    client: Client,
    wanted: RetryFilter,
    limit: int | None,
    dry_run: bool,
    total: int | None,
    as_json: bool,
    done: list[BulkRetry],
) -> None:
    with ProgressBar("retry", total, hidden=as_json) as bar:

        def on_page(page: BulkRetry) -> None:
            done.append(page)
            bar.advance(len(page.retried))
            with bar.paused():
                _print_page(page, as_json=as_json, dry_run=dry_run)

        client.retry_all(**asdict(wanted), dry_run=dry_run, limit=limit, on_page=on_page)


def _print_page(page: BulkRetry, *, as_json: bool, dry_run: bool) -> None:
    if as_json:
        print_json({"dry_run": dry_run, **asdict(page)})
        return
    for one in page.retried:
        click.echo(one.retry_of if dry_run else one.job_id)
    for skipped in page.skipped:
        click.echo(f"{skipped.job_id}: not retried: {one_line(skipped.message)}", err=True)


def _summary(done: list[BulkRetry], wanted: RetryFilter, *, dry_run: bool) -> str:
    retried = sum(len(page.retried) for page in done)
    skipped = sum(len(page.skipped) for page in done)
    already = sum(page.already_retried for page in done)
    parts = [f"{retried} {wanted.state} jobs {'would be retried' if dry_run else 'retried'}"]
    if already:
        parts.append(f"{already} had been retried before")
    if skipped:
        parts.append(f"{skipped} cannot be retried")
    sentence = ", ".join(parts) + "."
    stopped = next((page.stopped for page in done if page.stopped is not None), None)
    if stopped is not None:
        sentence += f" Stopped: {stopped} The same command goes on with the others later."
    return sentence
