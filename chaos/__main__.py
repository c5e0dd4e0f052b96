"""`python -m chaos`: one run; exit status 0 when every job ended as its request allows and nothing was spent."""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from chaos.checker import FINDINGS
from chaos.faults.catalog import FAULTS, Group
from chaos.plan import DEFAULT, LONG, SHORT, SHORT_INFRASTRUCTURE, Plan
from chaos.run import Result, run

_FAULTS_HELP = "\b\n" + "\n".join(
    f"{'Faults' if n == 0 else '':8}{fault.name:20}{fault.group:16}{fault.description}"
    for n, fault in enumerate(FAULTS)
)


@click.command(epilog=_FAULTS_HELP, context_settings={"max_content_width": 160})
@click.option("--parts", type=click.Choice(["production", "embedded"]), default="production", show_default=True)
@click.option("--short", "size", flag_value="short", help="12 jobs, 2 workers, each fault once.")
@click.option("--long", "size", flag_value="long", help="1,000 jobs over an hour, each fault once, outages of 300 s.")
@click.option(
    "--group",
    type=click.Choice([str(group) for group in Group]),
    help="Faults to inject; infrastructure faults alone leave one attempt (--short) or three to a job.  [default: all; "
    "--long: infrastructure]",
)
@click.option("--only", multiple=True, metavar="FAULT", help="Inject only this fault; may be repeated.")
@click.option("--together", type=click.IntRange(1, 8), help="Faults at the same time, of different parts.")
@click.option("--outage", "outage_s", type=float, help="Seconds that a part is away.")
@click.option("--api-outage", "api_outage_s", type=float, help="Seconds that the API is away.")
@click.option("--max-attempts", type=click.IntRange(1, 20), help="MMAUDIO_MAX_ATTEMPTS.")
@click.option("--jobs", type=int, help="Number of requests.")
@click.option("--spread", "spread_s", type=float, help="Seconds over which the requests are submitted.")
@click.option("--fault-interval", "fault_interval_s", type=float, help="Mean seconds between two faults.")
@click.option("--rounds", type=int, help="How often each fault is injected; 0: until every request was answered.")
@click.option("--settle", "settle_s", type=float, help="Seconds without a finished job after which the run is over.")
@click.option("--lease", "lease_s", type=float, help="MMAUDIO_LEASE_S; the heartbeat is a third of it.")
@click.option("--workers", type=int, help="Worker processes.")
@click.option("--seed", default=1, show_default=True, help="Seed of the requests and the faults.")
@click.option("--folder", type=click.Path(path_type=Path), help="Folder of logs and results.  [default: a new one]")
def main(
    parts: str,
    size: str | None,
    group: str | None,
    only: tuple[str, ...],
    seed: int,
    folder: Path | None,
    **given: float | None,
) -> None:
    """Inject faults into a platform under load and check every job."""
    logging.getLogger("werkzeug").setLevel("ERROR")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C: every process is stopped
    plan = replace(plan_of(size, group, only), production=parts == "production", seed=seed)
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    try:
        names = [fault.name for fault in plan.faults()]
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    folder = folder or Path(tempfile.mkdtemp(prefix="mmaudio-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"chaos: {plan.jobs} jobs, {plan.workers} workers, {parts} parts, seed {seed}; logs in {folder}")
    click.echo(f"faults to inject: {', '.join(names)}; at most {plan.max_attempts} attempts")
    result = run(plan, folder, click.echo)
    print_report(result)
    (folder / "check_result.json").write_text(json.dumps(result.as_json(), indent=1))
    sys.exit(0 if result.check_result.valid else 1)


def plan_of(size: str | None, group: str | None, only: tuple[str, ...]) -> Plan:
    """Return the plan that the other options change: few attempts where no worker process is killed."""
    groups = {fault.group for fault in FAULTS if fault.name in only} or ({Group(group)} if group else set())
    alone = groups == {Group.INFRASTRUCTURE}
    if size == "long":
        base = LONG if alone or not groups else replace(LONG, max_attempts=DEFAULT.max_attempts)
    elif size == "short":
        base = SHORT_INFRASTRUCTURE if alone else SHORT
    else:
        base = replace(DEFAULT, max_attempts=LONG.max_attempts) if alone else DEFAULT
    return replace(base, only=only, group=Group(group) if group else base.group)


def print_report(result: Result) -> None:
    """Print a summary of a run."""
    check_result = result.check_result
    for name in FINDINGS:
        for line in getattr(check_result, name):
            click.echo(f"{name}: {line}")
    for fault, reason in result.left_out.items():
        click.echo(f"left out: {fault}: {reason}")
    click.echo(f"faults: {_counts(result.faults)}")
    click.echo(f"process starts: {_counts(result.starts)}")
    click.echo(f"jobs: {_counts(check_result.states)}")
    click.echo(f"attempts: {_counts(check_result.outcomes)}")
    findings = ", ".join(f"{len(getattr(check_result, name))} {name}" for name in FINDINGS)
    click.echo(
        f"{check_result.submitted} submitted, {check_result.accepted} accepted, {findings}, "
        f"{check_result.recovered} recovered, {check_result.orphaned_objects} orphaned objects, {result.took_s:.0f} s"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


if __name__ == "__main__":
    main()
