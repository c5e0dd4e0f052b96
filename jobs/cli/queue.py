"""`mmaudio queue`: shows and controls the queues, directly in the database."""

from __future__ import annotations

import click

from jobs.cli.database import cli_actor, platform_transaction
from jobs.service.audit import record_action
from jobs.service.scheduling import quotas
from jobs.service.scheduling.queue_stats import queue_stats
from jobs.variants import VARIANTS


@click.group()
def queue() -> None:
    """Show the queues, pause variants, limit tenants."""


@queue.command()
def show() -> None:
    """Show each variant's queue and the limits of tenants."""
    with platform_transaction() as tx:
        stats = queue_stats(tx, tuple(sorted(quotas.paused_variants(tx))))
        for row in stats:
            age = "-" if row.oldest_queued_age_s is None else f"{row.oldest_queued_age_s:.0f} s"
            eta = "-" if row.eta_s is None else f"{row.eta_s:.0f} s"
            click.echo(
                f"{row.variant}: {row.queued} queued (oldest {age}), {row.running} running, "
                f"{row.throughput_per_min:g} per minute, done in {eta}{', paused' if row.paused else ''}"
            )
        if not stats:
            click.echo("No jobs are queued or running.")
        for quota in quotas.tenant_quotas(tx):
            limit = "as in the settings" if quota.max_running is None else str(quota.max_running)
            click.echo(f"tenant {quota.tenant}: weight {quota.weight:g}, running limit {limit}")


@queue.command(short_help="Start no more jobs of a variant.")
@click.argument("variant", metavar="VARIANT", type=click.Choice(list(VARIANTS)))
def pause(variant: str) -> None:
    """Start no more jobs of VARIANT; running jobs continue, submitted jobs stay queued."""
    with platform_transaction() as tx:
        quotas.pause(tx, variant)
        record_action(tx, cli_actor(), "queue.pause", variant)
    click.echo(f"Paused {variant}; `mmaudio queue resume {variant}` resumes it.")


@queue.command(short_help="Start jobs of a variant again.")
@click.argument("variant", metavar="VARIANT", type=click.Choice(list(VARIANTS)))
def resume(variant: str) -> None:
    """Start jobs of VARIANT again, within MMAUDIO_MAINTENANCE_INTERVAL_S."""
    with platform_transaction() as tx:
        quotas.resume(tx, variant)
        record_action(tx, cli_actor(), "queue.resume", variant)
    click.echo(f"Resumed {variant}.")


@queue.command()
@click.argument("tenant")
@click.option("--running", type=int, help="Maximum number of its jobs that run at once.")
@click.option("--weight", type=float, help="Weight of its share of the slots; other tenants have 1.")
@click.option("--clear", is_flag=True, help="Restore the defaults.")
def limit(tenant: str, running: int | None, weight: float | None, clear: bool) -> None:
    """Limit TENANT; its running jobs continue."""
    if clear == (running is not None or weight is not None):
        raise click.UsageError("Give --running, --weight or both; or --clear.")
    try:
        with platform_transaction() as tx:
            if clear:
                quotas.clear_quota(tx, tenant)
            else:
                quotas.set_quota(tx, tenant, weight=weight, max_running=running)
            record_action(tx, cli_actor(), "tenant.quota", tenant, weight=weight, max_running=running, cleared=clear)
    except ValueError as exc:
        raise click.UsageError(str(exc)) from exc
    click.echo(f"{'Restored the defaults of' if clear else 'Changed the limits of'} tenant {tenant}.")
