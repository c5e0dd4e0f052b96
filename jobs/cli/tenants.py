"""`mmaudio tenants`: what operators set for tenants, directly in the database."""

from __future__ import annotations

import json
from typing import Any

import click

from jobs.api_keys.scope import DEFAULT_TENANT
from jobs.cli.database import cli_actor, platform_transaction
from jobs.cli.keys import json_option
from jobs.db.key_tables import TENANT_LIMITS
from jobs.tenants.service import FIELDS, LISTS, MAX_PAGE, change_tenant, known_tenants, restore_defaults, tenant_values

DEFAULT = "default"


@click.group()
def tenants() -> None:
    """Show and set where tenants may read and write, and their limits."""


@tenants.command(name="list")
@json_option
def list_(as_json: bool) -> None:
    """List the tenants that have keys or settings of their own."""
    rows: list[dict[str, Any]] = []
    with platform_transaction() as tx:
        cursor = None
        while True:
            page = known_tenants(tx, cursor=cursor, limit=MAX_PAGE)
            rows += [{"tenant": name, **tenant_values(tx, name)} for name in page.tenants]
            cursor = page.next_cursor
            if cursor is None:
                break
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        click.echo(f"{row['tenant']}: {_own(row)}")
    if not rows:
        click.echo("No tenant has keys or settings of its own.")


@tenants.command()
@click.argument("tenant", metavar="TENANT")
@json_option
def show(tenant: str, as_json: bool) -> None:
    """Show what is set for TENANT."""
    with platform_transaction() as tx:
        values = tenant_values(tx, tenant)
    if as_json:
        click.echo(json.dumps({"tenant": tenant, **values}, indent=2))
        return
    for name, value in values.items():
        # The buckets and hosts of the settings are those of `default` alone.
        nothing = value is None and name in LISTS and tenant != DEFAULT_TENANT
        click.echo(f"{name}: {'none' if nothing else _text(value)}")


@tenants.command(name="set")
@click.argument("tenant", metavar="TENANT")
@click.argument("values", metavar="FIELD=VALUE...", nargs=-1, required=True)
@json_option
def set_(tenant: str, values: tuple[str, ...], as_json: bool) -> None:
    """Set fields of TENANT. The value `default` restores one.

    \b
    Lists, separated by commas (`none`: nothing is allowed, which is the default
    of every tenant but `default`):
      input_buckets, output_buckets    buckets, or folders in them: videos,shared/studio
      input_hosts                      hosts that inputs may be fetched from
    Limits (0: no limit):
      requests_per_minute, key_requests_per_minute, max_queued, max_triggers,
      max_stored_upload_bytes, max_stored_result_bytes, max_waiting
    Shares:
      weight                           of its share of the slots, 1 by default
      max_running                      jobs that run at once; 0: none may start
    """
    changes = dict(_parsed(text) for text in values)
    with platform_transaction() as tx:
        change_tenant(tx, tenant, changes, actor=cli_actor())
        after = tenant_values(tx, tenant)
    click.echo(json.dumps({"tenant": tenant, **after}, indent=2) if as_json else f"{tenant}: {_own(after)}")


@tenants.command()
@click.argument("tenant", metavar="TENANT")
def clear(tenant: str) -> None:
    """Restore all defaults of TENANT. Its keys and jobs stay."""
    with platform_transaction() as tx:
        restore_defaults(tx, tenant, actor=cli_actor())
    click.echo(f"Restored the defaults of tenant {tenant}.")


def _parsed(text: str) -> tuple[str, Any]:
    name, separator, value = text.partition("=")
    name = name.strip().replace("-", "_")
    if not separator or name not in FIELDS:
        raise click.UsageError(f"Got {text!r}; give FIELD=VALUE with one of {', '.join(FIELDS)}.")
    value = value.strip()
    if value == DEFAULT:
        return name, None
    if name in LISTS:
        return name, [] if value == "none" else [part.strip() for part in value.split(",") if part.strip()]
    try:
        return name, float(value) if name == "weight" else int(value)
    except ValueError as exc:
        kind = "a whole number" if name in TENANT_LIMITS else "a number"
        raise click.UsageError(f"Got {text!r}; give {kind}, or `default`.") from exc


def _own(values: dict[str, Any]) -> str:
    own = [f"{name}={_text(value)}" for name, value in values.items() if name != "tenant" and value is not None]
    return ", ".join(own) or "defaults"


def _text(value: Any) -> str:
    if value is None:
        return "as in the settings"
    return (
        (",".join(value) or "none")
        if isinstance(value, list)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )
