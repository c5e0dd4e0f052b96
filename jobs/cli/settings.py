"""`mmaudio settings`: every setting with its value and purpose."""

from __future__ import annotations

import json

import click
from pydantic import SecretStr

from jobs.cli.configuration import load_settings_or_exit
from jobs.cli.settings_document import settings_document
from jobs.settings import Settings
from jobs.settings_errors import variable
from jobs.settings_values import mask_url


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, by environment variable.")
@click.option("--markdown", is_flag=True, help="Print docs/settings.md, which has no values of this machine.")
def settings(as_json: bool, markdown: bool) -> None:
    """Show every setting: its variable, its current value, what it is for. Secrets and passwords are masked."""
    if as_json and markdown:
        raise click.UsageError("Give --json or --markdown, not both.")
    if markdown:
        click.echo(settings_document(), nl=False)
        return
    current = load_settings_or_exit()
    if as_json:
        rows = {
            variable(name): {"value": _plain(current, name), "description": field.description}
            for name, field in Settings.model_fields.items()
        }
        click.echo(json.dumps(rows, indent=2))
        return
    for name, field in Settings.model_fields.items():
        click.echo(f"{variable(name)} = {_text(current, name)}")
        click.echo(f"    {field.description}")


def _plain(current: Settings, name: str) -> object:
    """Return a value for JSON; None for a secret that is not set."""
    value = current.model_dump(mode="json")[name] if not _is_secret(current, name) else getattr(current, name)
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else None
    return mask_url(value) if isinstance(value, str) else value


def _text(current: Settings, name: str) -> str:
    value = getattr(current, name)
    if isinstance(value, SecretStr):
        return "***" if value.get_secret_value() else ""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return ",".join(value)
    return json.dumps(value) if isinstance(value, dict) else mask_url(str(value))


def _is_secret(current: Settings, name: str) -> bool:
    return isinstance(getattr(current, name), SecretStr)
