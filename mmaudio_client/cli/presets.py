"""`mmaudio presets`."""

from __future__ import annotations

import json

import click

from mmaudio_client.cli.exit_codes import ASKING
from mmaudio_client.cli.json_files import json_object
from mmaudio_client.cli.session import CommandGroup, ServerCommand, print_json, with_server
from mmaudio_client.cli.table import print_rows
from mmaudio_client.cli.text_width import one_line, printable_json
from mmaudio_client.client import Client
from mmaudio_client.presets import Preset

HEADER = ("NAME", "VERSION", "CREATED", "DESCRIPTION")


@click.group(cls=CommandGroup)
def presets() -> None:
    """Manage presets: named fields of requests. `mmaudio submit --preset NAME` takes the fields that are not given."""


@presets.command("list", cls=ServerCommand, exit_codes=ASKING, short_help="List presets, or the versions of one.")
@click.argument("name", required=False)
@with_server
def list_(client: Client, name: str | None, as_json: bool) -> None:
    """List all presets, each in its newest version; with NAME all versions of that one, newest first."""
    found = client.presets.list() if name is None else client.presets.versions(name)
    if as_json:
        for preset in found:
            print_json(preset.raw)
        return
    rows = (
        (one.name, one.version, f"{one.created_at:%Y-%m-%dT%H:%M:%SZ}", one.description or json.dumps(one.request))
        for one in found
    )
    print_rows(HEADER, rows)


@presets.command(cls=ServerCommand, exit_codes=ASKING, short_help="Show a preset.")
@click.argument("name")
@click.option("--version", type=click.IntRange(1), metavar="N", help="Show this version; default: the newest.")
@with_server
def show(client: Client, name: str, version: int | None, as_json: bool) -> None:
    """Show the preset NAME."""
    _print(client.presets.get(name, version=version), as_json=as_json)


@presets.command(cls=ServerCommand, exit_codes=ASKING, short_help="Create a preset, or a version of one.")
@click.argument("name")
@click.argument("request")
@click.option("--description", metavar="TEXT", help="What it is for.")
@with_server
def put(client: Client, name: str, request: str, description: str | None, as_json: bool) -> None:
    """Create the preset NAME, or a new version of it, with the fields of REQUEST, a JSON object.

    \b
      mmaudio presets put film '{"sample_rate_hz": 48000, "loudness_lufs": -23}'
    """
    fields = json_object(request, "REQUEST")
    _print(client.presets.put(name, fields, description=description), as_json=as_json)


@presets.command(cls=ServerCommand, exit_codes=ASKING, short_help="Delete a preset.")
@click.argument("name")
@with_server
def delete(client: Client, name: str, as_json: bool) -> None:
    """Delete all versions of the preset NAME. Jobs keep what they got from it."""
    client.presets.delete(name)
    print_json({"name": name, "deleted": True}) if as_json else click.echo(f"{name}: deleted")


def _print(preset: Preset, *, as_json: bool) -> None:
    if as_json:
        print_json(preset.raw)
        return
    click.echo(f"{preset.name}@{preset.version}" + (f": {one_line(preset.description)}" if preset.description else ""))
    click.echo(printable_json(preset.request))
