"""`mmaudio doctor`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import closing

import click
from sqlalchemy.exc import DBAPIError

from jobs.cli.configuration import load_settings_or_exit
from jobs.cli.doctor_cors import run_cors_check
from jobs.db.database import Database
from jobs.doctor.finding import Finding
from jobs.doctor.objects import ObjectsCheck
from jobs.doctor.queue import QueueCheck
from jobs.doctor.unfinished_writes import find_unfinished_writes
from jobs.log_lines import start_logging
from jobs.queue import Broker, BrokerUnavailableError
from jobs.settings import BrokerUnknownError
from jobs.storage.errors import StorageError
from jobs.storage.factory import open_store

GRACE_S = 3600

Check = Callable[[], Iterator[Finding]]


@click.command()
@click.option("--fix", is_flag=True, help="Repair what is inconsistent.")
@click.option(
    "--grace",
    "grace_s",
    metavar="SECONDS",
    type=float,
    default=GRACE_S,
    show_default=True,
    help="Skip objects younger than this; their rows may not be committed yet.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document per line.")
@click.option("--cors", is_flag=True, help="Only print the CORS rules that browsers need, and check the bucket's.")
@click.option("--origin", "origins", multiple=True, metavar="URL", help="With --cors: where web pages are opened from.")
def doctor(fix: bool, grace_s: float, as_json: bool, cors: bool, origins: tuple[str, ...]) -> None:
    """Compare database, queue and object store; report and repair inconsistencies.

    Safe to run while the platform works. Exit status 0: consistent, or all inconsistencies were fixed. 1: some remain,
    or a check could not finish.
    """
    settings = load_settings_or_exit()
    if cors or origins:
        run_cors_check(settings, origins, as_json=as_json)
    start_logging("ERROR")
    try:
        broker, store = Broker(settings.resolved_broker_url()), open_store(settings)
    except (BrokerUnknownError, ValueError) as exc:
        raise click.ClickException(str(exc)) from exc
    with closing(Database(settings.database_url)) as db, closing(broker):
        checks: dict[str, Check] = {
            "rows and objects": ObjectsCheck(db, store, grace_s=grace_s).run,
            "unfinished writes": lambda: find_unfinished_writes(store),
            "rows and queue": QueueCheck(db, broker).run,
        }
        findings, failures = _run(checks, fix=fix, show=lambda finding: click.echo(_format(finding, as_json)))
    for name, reason in failures.items():
        click.echo(
            json.dumps({"check": name, "error": reason}) if as_json else f"check failed: {name}: {reason}", err=True
        )
    fixed = sum(finding.fixed for finding in findings)
    if not as_json:
        noun = "inconsistency" if len(findings) == 1 else "inconsistencies"
        click.echo(f"{len(findings)} {noun} found, {fixed} fixed" if findings else "no inconsistencies found")
    if failures or len(findings) > fixed:
        raise SystemExit(1)


def _run(
    checks: dict[str, Check], *, fix: bool, show: Callable[[Finding], None]
) -> tuple[list[Finding], dict[str, str]]:
    """Run every check; return the findings, and why a check could not finish, by its name."""
    findings: list[Finding] = []
    failures: dict[str, str] = {}
    for name, check in checks.items():
        try:
            for finding in check():
                findings.append(finding)
                if fix:
                    finding.fix()
                    finding.fixed = True
                show(finding)
        except (DBAPIError, StorageError, BrokerUnavailableError) as exc:
            failures[name] = str(getattr(exc, "orig", exc)).strip().splitlines()[0]
    return findings, failures


def _format(finding: Finding, as_json: bool) -> str:
    if as_json:
        return json.dumps(finding.as_json())
    return f"{finding.kind}: {finding.subject}: {finding.detail}{' (fixed)' if finding.fixed else ''}"
