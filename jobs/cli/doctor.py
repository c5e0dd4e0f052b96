"""`mmaudio doctor`."""

from __future__ import annotations

import contextlib
import json

import click

from jobs.cli.configuration import ConfigurationRefused, load_settings_or_exit
from jobs.cli.doctor_cors import run_cors_check
from jobs.db.database import Database
from jobs.doctor.finding import Finding
from jobs.doctor.run import DoctorRun, Mode, Report
from jobs.doctor.spool import FindingSpool
from jobs.doctor.survey import Survey
from jobs.log_lines import start_logging
from jobs.queue import Broker
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.settings import Settings
from jobs.storage.factory import open_store
from jobs.storage.protocol import ObjectStore

GRACE_S = 3600
EXIT_INCONSISTENT = 1
EXIT_COULD_NOT_LOOK = 2


@click.command()
@click.option("--fix", is_flag=True, help="Repair what is inconsistent.")
@click.option("--dry-run", is_flag=True, help="Print what --fix would do; change nothing.")
@click.option(
    "--yes-all",
    is_flag=True,
    help="Repair even if more than 5 % of the rows or objects are inconsistent, and more than 10.",
)
@click.option(
    "--adopt",
    is_flag=True,
    help="Tie the store to this database, once the objects of a sample of its rows are found there.",
)
@click.option(
    "--delete-unknown",
    is_flag=True,
    help="With --fix: also delete objects of jobs and uploads of which this database knows nothing.",
)
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
def doctor(
    fix: bool,
    dry_run: bool,
    yes_all: bool,
    adopt: bool,
    delete_unknown: bool,
    grace_s: float,
    as_json: bool,
    cors: bool,
    origins: tuple[str, ...],
) -> None:
    """Compare database, queue and object store; report and repair inconsistencies.

    Safe to run while the platform works. Nothing is repaired unless everything could be looked at, the store is that
    of the database, and few enough inconsistencies were found (--yes-all). Every repair is recorded in the table
    audit_events.

    Exit status 0: consistent, or all inconsistencies were fixed. 1: some remain. 2: a part did not answer, or the store
    is not that of the database; what could not be looked at is said.
    """
    settings = load_settings_or_exit()
    if cors or origins:
        run_cors_check(settings, origins, as_json=as_json)
    start_logging("ERROR")
    mode = Mode(fix, dry_run, yes_all, adopt, delete_unknown, grace_s)
    with FindingSpool() as findings:
        survey = Survey(findings)
        report = _run(settings, mode, survey, as_json)
        _conclude(survey, report, mode, as_json)
    if survey.failures or report.stopped:
        raise SystemExit(EXIT_COULD_NOT_LOOK)
    if survey.total > report.fixed or report.refusals:
        raise SystemExit(EXIT_INCONSISTENT)


def _run(settings: Settings, mode: Mode, survey: Survey, as_json: bool) -> Report:
    with contextlib.ExitStack() as stack:

        def open_broker() -> Broker:
            return stack.enter_context(contextlib.closing(Broker(settings.resolved_broker_url())))

        run = DoctorRun(
            stack.enter_context(contextlib.closing(Database(settings.database_url).of_platform())),
            _open_store(settings),
            open_broker,
            mode=mode,
            policy=DispatchPolicy.from_settings(settings),
            survey=survey,
            show=lambda finding: click.echo(_format(finding, mode, as_json)),
        )
        return run.run()


def _open_store(settings: Settings) -> ObjectStore:
    try:
        return open_store(settings)
    except ValueError as exc:
        raise ConfigurationRefused(str(exc)) from exc


def _conclude(survey: Survey, report: Report, mode: Mode, as_json: bool) -> None:
    """Print what was not looked at and not repaired, and the sums."""

    def say(text: str, document: dict[str, str]) -> None:
        click.echo(json.dumps(document) if as_json else text, err=True)

    for name, reason in survey.failures.items():
        say(f"check failed: {name}: could not look: {reason}", {"check": name, "error": reason})
    for reason in report.refusals:
        verb = "would refuse" if mode.dry_run else "refused, nothing was repaired"
        say(f"{verb}: {reason}", {"refused": reason})
    if report.stopped:
        say(f"repairs stopped: {report.stopped}", {"stopped": report.stopped})
    for note in report.notes:
        say(note, {"note": note})
    if as_json:
        return
    if survey.total:
        noun = "inconsistency" if survey.total == 1 else "inconsistencies"
        click.echo(f"{survey.total} {noun} found, {report.fixed} fixed")
    else:
        click.echo("no inconsistencies found" + (" in what could be looked at" if survey.failures else ""))


def _format(finding: Finding, mode: Mode, as_json: bool) -> str:
    if as_json:
        return json.dumps(finding.as_json())
    done = " (fixed)" if finding.fixed else f" (would {finding.action.sentence})" if mode.dry_run else ""
    return f"{finding.kind}: {finding.subject}: {finding.detail}{done}"
