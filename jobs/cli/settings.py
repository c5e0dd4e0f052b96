"""`mmaudio settings`: every setting with its value, default and purpose."""

from __future__ import annotations

import click
from pydantic import SecretStr

from jobs.settings import Settings, load_settings


@click.command()
def settings() -> None:
    """Show every setting: its variable, its value here, what it is for."""
    current = load_settings()
    for name, field in Settings.model_fields.items():
        value = getattr(current, name)
        shown = (
            ("(set)" if value.get_secret_value() else "(made on first use)") if isinstance(value, SecretStr) else value
        )
        click.echo(f"MMAUDIO_{name.upper()} = {shown}")
        click.echo(f"    {field.description}")
