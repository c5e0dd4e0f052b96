"""`mmaudio doctor`."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import closing

import click
from sqlalchemy.exc import DBAPIError

from jobs.db.database import Database
from jobs.doctor.finding import Finding
from jobs.doctor.objects import ObjectsCheck
from jobs.doctor.queue import QueueCheck
from jobs.doctor.unfinished_writes import unfinished_write_findings
from jobs.queue import Broker, BrokerUnavailableError
from jobs.settings import BrokerUnknownError, load_settings
from jobs.storage.errors import StorageError
from jobs.storage.factory import open_store

GRACE_S = 3600.0

Check = Callable[[], Iterator[Finding]]


@click.command()
@click.option("--fix", is_flag=True, help="Mend what disagrees.")
@click.option("--grace", "grace_s", default=GRACE_S, show_default=True, help="Leave objects younger than this, in s.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document a line.")
def doctor(fix: bool, grace_s: float, as_json: bool) -> None:
    """Compare database, broker and object store; say (and with --fix mend) what disagrees.

    Safe while the platform runs. Status 0: all agrees, or was mended. 1: something disagrees or does not answer.
    """
    settings = load_settings()
    logging.basicConfig(level="ERROR")
    try:
        broker = Broker(settings.resolved_broker_url())
    except BrokerUnknownError as exc:
        raise click.ClickException(str(exc)) from exc
    with closing(Database(settings.database_url)) as db, closing(broker):
        store = open_store(settings)
        checks: dict[str, Check] = {
            "rows and objects": ObjectsCheck(db, store, grace_s=grace_s).findings,
            "unfinished uploads": lambda: unfinished_write_findings(store),
            "rows and belt": QueueCheck(db, broker).findings,
        }
        found, unanswered = _examine(checks, fix=fix, show=lambda finding: click.echo(_shown(finding, as_json)))
    mended = sum(finding.mended for finding in found)
    if not as_json:
        click.echo(f"{len(found)} disagreements, {mended} mended" if found else "nothing disagrees")
    if unanswered or len(found) > mended:
        raise SystemExit(1)


def _examine(checks: dict[str, Check], *, fix: bool, show: Callable[[Finding], None]) -> tuple[list[Finding], int]:
    """Make every check; return what was found, and how many checks could not be made to the end."""
    found, unanswered = [], 0
    for name, check in checks.items():
        try:
            for finding in check():
                found.append(finding)
                if fix:
                    finding.mend()
                    finding.mended = True
                show(finding)
        except (DBAPIError, StorageError, BrokerUnavailableError) as exc:
            unanswered += 1
            reason = str(getattr(exc, "orig", exc)).strip().splitlines()[0]
            click.echo(f"{name}: not compared to the end: {reason}", err=True)
    return found, unanswered


def _shown(finding: Finding, as_json: bool) -> str:
    if as_json:
        return json.dumps(finding.as_json())
    return f"{finding.kind}: {finding.subject}: {finding.detail}{' (mended)' if finding.mended else ''}"
