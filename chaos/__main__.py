"""`python -m chaos`: one run; exit status 0 when no job was lost, duplicated or ended unexpectedly."""

from __future__ import annotations

import json
import logging
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import click

from chaos.run import LONG, SHORT, Result, run


@click.command()
@click.option("--parts", type=click.Choice(["production", "embedded"]), default="production", show_default=True)
@click.option("--short", is_flag=True, help="16 jobs, 2 workers, each fault once.")
@click.option("--jobs", type=int, help="Number of requests.")
@click.option("--spread", "spread_s", type=float, help="Seconds over which the requests are submitted.")
@click.option("--fault-interval", "fault_interval_s", type=float, help="Mean seconds between two faults.")
@click.option("--settle", "settle_s", type=float, help="Seconds without a finished job after which the run is over.")
@click.option("--lease", "lease_s", type=float, help="MMAUDIO_LEASE_S; the heartbeat is a third of it.")
@click.option("--workers", type=int, help="Worker processes.")
@click.option("--seed", default=1, show_default=True, help="Seed of the requests and the faults.")
@click.option("--folder", type=click.Path(path_type=Path), help="Folder of logs and results.  [default: a new one]")
def main(parts: str, short: bool, seed: int, folder: Path | None, **given: float | None) -> None:
    """Inject faults into a platform under load and check every job."""
    logging.getLogger("werkzeug").setLevel("ERROR")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C: every process is stopped
    base = SHORT if short else LONG
    plan = replace(base, production=parts == "production", seed=seed)
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    plan = replace(plan, heartbeat_s=plan.lease_s / 3)
    folder = folder or Path(tempfile.mkdtemp(prefix="mmaudio-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"chaos: {plan.jobs} jobs, {plan.workers} workers, {parts} parts, seed {seed}; logs in {folder}")
    result = run(plan, folder, click.echo)
    print_report(result)
    (folder / "check_result.json").write_text(json.dumps(result.as_json(), indent=1))
    sys.exit(0 if result.check_result.valid else 1)


def print_report(result: Result) -> None:
    """Print a summary of a run."""
    check_result = result.check_result
    for name in ("lost", "duplicated", "unexpected"):
        for line in getattr(check_result, name):
            click.echo(f"{name}: {line}")
    for line in result.ledger.caller_errors:
        click.echo(f"caller error: {line}")
    click.echo(f"faults: {_counts(result.faults)}")
    click.echo(f"process starts: {_counts(result.starts)}")
    click.echo(f"jobs: {_counts(check_result.states)}")
    click.echo(f"attempts: {_counts(check_result.outcomes)}")
    click.echo(
        f"{check_result.submitted} submitted, {check_result.accepted} accepted, {len(check_result.lost)} lost, "
        f"{len(check_result.duplicated)} duplicated, {len(check_result.unexpected)} unexpected, "
        f"{check_result.recovered} recovered, "
        f"{check_result.orphaned_objects} orphaned objects, {result.took_s:.0f} s"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


if __name__ == "__main__":
    main()
