"""`python -m chaos`: one run, its check_result on the standard output, status 0 when nothing was lost or doubled."""

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
@click.option("--jobs", type=int, help="How many requests.")
@click.option("--spread", "spread_s", type=float, help="Over how many seconds they come.")
@click.option("--every", "every_s", type=float, help="Seconds between two faults, about.")
@click.option("--settle", "settle_s", type=float, help="Seconds that the next job may take to end afterwards.")
@click.option("--lease", "lease_s", type=float, help="MMAUDIO_LEASE_S; the heartbeat is a third of it.")
@click.option("--workers", type=int, help="Worker processes.")
@click.option("--seed", default=1, show_default=True, help="Draws the requests and the faults.")
@click.option("--folder", type=click.Path(path_type=Path), help="Where the logs stay.  [default: a new one]")
def main(parts: str, short: bool, seed: int, folder: Path | None, **given: float | None) -> None:
    """Break the platform while it works; say what became of every job."""
    logging.getLogger("werkzeug").setLevel("ERROR")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C: nothing stays behind
    base = SHORT if short else LONG
    plan = replace(base, production=parts == "production", seed=seed)
    plan = replace(plan, **{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    plan = replace(plan, heartbeat_s=plan.lease_s / 3)
    folder = folder or Path(tempfile.mkdtemp(prefix="mmaudio-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    click.echo(f"chaos: {plan.jobs} jobs, {plan.workers} workers, {parts} parts, seed {seed}; logs in {folder}")
    result = run(plan, folder, click.echo)
    report(result)
    (folder / "check_result.json").write_text(json.dumps(result.as_json(), indent=1))
    sys.exit(0 if result.check_result.good else 1)


def report(result: Result) -> None:
    """Print what a person wants to know of a run."""
    check_result = result.check_result
    for name in ("lost", "duplicated", "unexpected"):
        for line in getattr(check_result, name):
            click.echo(f"{name}: {line}")
    for line in result.ledger.trouble:
        click.echo(f"caller: {line}")
    click.echo(f"faults: {_counts(result.faults)}")
    click.echo(f"starts: {_counts(result.starts)}")
    click.echo(f"ends: {_counts(check_result.ends)}")
    click.echo(f"attempts: {_counts(check_result.outcomes)}")
    click.echo(
        f"{check_result.submitted} submitted, {check_result.accepted} accepted, {len(check_result.lost)} lost, "
        f"{len(check_result.duplicated)} duplicated, {len(check_result.unexpected)} unexpected, "
        f"{check_result.recovered} recovered, "
        f"{check_result.left_over} objects of dropped attempts left over, {result.took_s:.0f} s"
    )


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items()))


if __name__ == "__main__":
    main()
