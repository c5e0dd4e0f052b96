"""`mmaudio migrate`."""

from __future__ import annotations

import click
from alembic.util import CommandError
from sqlalchemy.exc import SQLAlchemyError

from jobs.cli.configuration import configuration_errors, load_settings_or_exit
from jobs.settings_values import mask_url
from jobs.writable_folders import check_folders
from migrations.upgrade import unlimited_role, upgrade


@click.command()
@click.option("--revision", default="head", show_default=True, help="Revision to migrate to.")
def migrate(revision: str) -> None:
    """Migrate the database to the current schema."""
    settings = load_settings_or_exit()
    with configuration_errors():
        check_folders(settings, "migrate")
    url = settings.database_url
    try:
        upgrade(url, revision)
        role = unlimited_role(url)
    except SQLAlchemyError as exc:
        reason = " ".join(str(getattr(exc, "orig", exc)).split())
        raise click.ClickException(f"Cannot use the database {mask_url(url)}: {reason}") from exc
    except CommandError as exc:
        raise click.ClickException(
            f"Cannot migrate {mask_url(url)}: {exc}. A newer release has migrated it, or the revision does not exist."
        ) from exc
    click.echo(f"The database is at revision {revision}.")
    if role is not None:
        click.echo(
            f"Warning: the role {role} is a superuser or has BYPASSRLS, so PostgreSQL's row-level security does not "
            "keep tenants apart. Give the platform a role of its own that owns its tables.",
            err=True,
        )
