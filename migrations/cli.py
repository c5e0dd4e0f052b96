"""`mmaudio migrate`."""

from __future__ import annotations

import click

from jobs.cli.configuration import load_settings_or_exit
from migrations.upgrade import upgrade


@click.command()
@click.option("--revision", default="head", show_default=True, help="Revision to migrate to.")
def migrate(revision: str) -> None:
    """Bring the database to the current schema."""
    settings = load_settings_or_exit()
    upgrade(settings.database_url, revision)
    click.echo(f"The database is at revision {revision}.")
