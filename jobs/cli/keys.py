"""`mmaudio keys`: makes, lists, rotates and revokes API keys, directly in the database."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import click

from jobs.api_keys.scope import DEFAULT_TENANT, KeyScope
from jobs.api_keys.service import MAX_PAGE, NewKey, create_key, key_state, list_keys, revoke_key, rotate_key
from jobs.cli.configuration import configuration_errors, load_settings_or_exit
from jobs.cli.database import cli_actor, platform_transaction
from jobs.db.key_tables import ApiKey
from jobs.log_lines import printable
from jobs.secret_key import FILE_NAME, rotate_kept_key

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}
_LONGEST_S = 36_525 * 86_400

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def time_span(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    """Return the seconds of `90s`, `15m`, `24h`, `30d` or `8w`; a number alone is seconds.

    Raises:
        click.BadParameter: the text is none of these.
    """
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})([smhdw]?)", text.strip().lower())
    seconds = int(match[1]) * _UNITS[match[2] or "s"] if match else None
    if seconds is None or seconds > _LONGEST_S:
        raise click.BadParameter(f"got {text!r}; give seconds, or a number with s, m, h, d or w, such as 90d")
    return float(seconds)


@click.group()
def keys() -> None:
    """Make, list, rotate and revoke API keys."""


@keys.command()
@click.option("--tenant", default=DEFAULT_TENANT, show_default=True, help="Whose jobs the key is for.")
@click.option("--name", default="", help="Display name.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice([str(one) for one in KeyScope]),
    help="What it allows; may be given several times.  [default: jobs:read and jobs:write]",
)
@click.option("--expires", "expires_s", callback=time_span, metavar="SPAN", help="Valid for so long, such as 90d.")
@json_option
def create(tenant: str, name: str, scopes: tuple[str, ...], expires_s: float | None, as_json: bool) -> None:
    """Make an API key and print it. It is not shown again."""
    wanted = [KeyScope(one) for one in scopes] or [KeyScope.JOBS_READ, KeyScope.JOBS_WRITE]
    with platform_transaction() as tx:
        new = create_key(
            tx,
            tenant=tenant,
            name=name[:120],
            scopes=wanted,
            expires_at=tx.now + timedelta(seconds=expires_s) if expires_s is not None else None,
            actor=cli_actor(),
        )
        document = _document(new.row, tx.now)
    _print_new(new, document, as_json)


@keys.command(name="list")
@click.option("--tenant", help="Only keys of this tenant.")
@click.option("--active", is_flag=True, help="Only keys that are valid now.")
@json_option
def list_(tenant: str | None, active: bool, as_json: bool) -> None:
    """List API keys, newest first, without their texts."""
    rows: list[dict[str, Any]] = []
    with platform_transaction() as tx:
        cursor = None
        while True:
            page = list_keys(tx, tenant=tenant, cursor=cursor, limit=MAX_PAGE, active=active)
            rows += [_document(row, tx.now) for row in page.keys]
            cursor = page.next_cursor
            if cursor is None:
                break
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    for row in rows:
        used = f"last used {row['last_used_at']}" if row["last_used_at"] else "never used"
        ends = f", expires {row['expires_at']}" if row["expires_at"] else ""
        click.echo(
            f"{row['id']}  {row['prefix']}...  {row['state']}  tenant {row['tenant']}  {','.join(row['scopes'])}  "
            f"{printable(row['name']) or '-'}  ({used}{ends})"
        )
    if not rows:
        click.echo("There are no API keys; `mmaudio keys create` makes one.")


@keys.command()
@click.argument("key_id", metavar="KEY_ID")
@json_option
def revoke(key_id: str, as_json: bool) -> None:
    """Revoke the API key KEY_ID (`key_...`): every process refuses it from now on."""
    with platform_transaction() as tx:
        document = _document(revoke_key(tx, key_id, tenant=None, actor=cli_actor()), tx.now)
    click.echo(json.dumps(document, indent=2) if as_json else f"Revoked {key_id}.")


@keys.command()
@click.argument("key_id", metavar="KEY_ID")
@click.option(
    "--grace", "grace_s", callback=time_span, metavar="SPAN", default="0", help="Keep the old key valid for so long."
)
@json_option
def rotate(key_id: str, grace_s: float, as_json: bool) -> None:
    """Make a key that replaces KEY_ID and print it. The old one is revoked at once, unless --grace is given."""
    with platform_transaction() as tx:
        new = rotate_key(tx, key_id, tenant=None, grace_s=grace_s, actor=cli_actor())
        document = _document(new.row, tx.now)
    _print_new(new, document, as_json)


@keys.command(name="rotate-signing")
def rotate_signing() -> None:
    """Make a new key for signed links; the present one is accepted until the next rotation. Restart the API after it.

    With MMAUDIO_SECRET_KEY set, put a new key before the old one there, separated by a comma, instead.
    """
    settings = load_settings_or_exit()
    with configuration_errors():
        rotate_kept_key(settings)
    click.echo(f"New links will be signed with a new key of {settings.data_dir / FILE_NAME}; restart the API now.")


def _print_new(new: NewKey, document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document | {"key": new.text}, indent=2))
        return
    click.echo(f"{new.row.id}: tenant {new.row.tenant}, {', '.join(new.row.scopes)}. It is shown only now:", err=True)
    click.echo(new.text)


def _document(row: ApiKey, now: datetime) -> dict[str, Any]:
    times = {
        name: value.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z") if value else None
        for name in ("created_at", "expires_at", "last_used_at", "revoked_at")
        for value in (getattr(row, name),)
    }
    return {
        "id": row.id,
        "tenant": row.tenant,
        "name": row.name,
        "prefix": row.prefix,
        "scopes": list(row.scopes),
        "state": str(key_state(row, now)),
        **times,
        "replaced_by": row.replaced_by,
    }
