"""`mmaudio queue`: what an operator says of the queues, straight to the database."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click
from sqlalchemy.exc import SQLAlchemyError

from jobs.cli.configuration import load_settings_or_exit
from jobs.db.database import Database, Transaction
from jobs.service.scheduling import quotas
from jobs.service.scheduling.queue_stats import queue_stats
from jobs.variants import VARIANTS


@click.group()
def queue() -> None:
    """Show the queues, pause a variant, set what a tenant may have."""


@contextmanager
def _transaction() -> Iterator[Transaction]:
    db = Database(load_settings_or_exit().database_url)
    try:
        with db.transaction() as tx:
            yield tx
    except SQLAlchemyError as exc:
        reason = str(getattr(exc, "orig", exc)).strip()
        raise click.ClickException(
            f"The database did not answer: {reason}. Is it running, and migrated (`mmaudio migrate`)?"
        ) from exc
    finally:
        db.close()


@queue.command()
def show() -> None:
    """How each variant's queue stands, and what was set for tenants."""
    with _transaction() as tx:
        sums = queue_stats(tx, tuple(sorted(quotas.paused_variants(tx))))
        shares = quotas.tenant_quotas(tx)
        for row in sums:
            age = "-" if row.oldest_queued_age_s is None else f"{row.oldest_queued_age_s:.0f} s"
            eta = "-" if row.eta_s is None else f"{row.eta_s:.0f} s"
            click.echo(
                f"{row.variant}: {row.queued} queued (oldest {age}), {row.running} running, "
                f"{row.throughput_per_min:g} a minute, done in {eta}{', PAUSED' if row.paused else ''}"
            )
        if not sums:
            click.echo("Nothing waits and nothing runs.")
        for share in shares:
            limit = "as the settings say" if share.max_running is None else str(share.max_running)
            click.echo(f"tenant {share.tenant}: weight {share.weight:g}, running limit {limit}")


@queue.command()
@click.argument("variant", type=click.Choice(sorted(VARIANTS)))
def pause(variant: str) -> None:
    """Start no more jobs of VARIANT; what runs goes on, what is submitted waits."""
    with _transaction() as tx:
        quotas.pause(tx, variant)
    click.echo(f"{variant} is paused; `mmaudio queue resume {variant}` starts it again.")


@queue.command()
@click.argument("variant", type=click.Choice(sorted(VARIANTS)))
def resume(variant: str) -> None:
    """Start jobs of VARIANT again (the control worker sees it within MMAUDIO_MAINTENANCE_INTERVAL_S)."""
    with _transaction() as tx:
        quotas.resume(tx, variant)
    click.echo(f"{variant} goes on.")


@queue.command()
@click.argument("tenant")
@click.option("--running", type=int, help="How many of its jobs may run at once.")
@click.option("--weight", type=float, help="Its share beside other tenants, who have 1.")
@click.option("--clear", is_flag=True, help="Give it back what every tenant has.")
def limit(tenant: str, running: int | None, weight: float | None, clear: bool) -> None:
    """Set what TENANT may have; what runs already goes on."""
    if clear == (running is not None or weight is not None):
        raise click.UsageError("Give --running, --weight or both, or else --clear.")
    try:
        with _transaction() as tx:
            if clear:
                quotas.clear_quota(tx, tenant)
            else:
                quotas.set_quota(tx, tenant, weight=weight, max_running=running)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    click.echo(f"tenant {tenant}: {'as every tenant' if clear else 'set'}.")
