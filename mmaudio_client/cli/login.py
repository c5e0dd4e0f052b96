"""`mmaudio login` and `mmaudio logout`: the key of a server, stored for later commands."""

from __future__ import annotations

import os
import sys

import click

from mmaudio_client.cli.error_output import InterruptedWaitError, print_notice
from mmaudio_client.cli.exit_codes import ASKING, LOCAL
from mmaudio_client.cli.session import ServerCommand, api_url_option, json_option, open_client, print_json
from mmaudio_client.connection import is_loopback, parse_address
from mmaudio_client.errors import ApiError
from mmaudio_client.stored_keys import StoredKeys

LONGEST_KEY = 4096
SCOPE_MISSING = "insufficient_scope"
"""The server's code for a key that is right but may not do this."""


@click.command(cls=ServerCommand, exit_codes=ASKING)
@api_url_option
@json_option
def login(api_url: str, as_json: bool) -> None:
    """Ask for the API key of a server without showing it, check it and store it for later commands.

    In a pipe the key is the first line of the standard input: mmaudio login < key.txt

    It is stored in $XDG_CONFIG_HOME/mmaudio/keys.json (default: ~/.config), which only this user can read. --api-key
    and MMAUDIO_API_KEY go before it. A key that the server refuses is not stored.
    """
    url = parse_address(api_url)
    if url.scheme == "http" and not is_loopback(url):
        text = f"The connection to {api_url} is not encrypted: others on the way can read the key."
        print_notice("unencrypted", text, as_json=as_json)
    key = _read_key(api_url)
    with open_client(api_url, key, as_json=as_json) as client:
        try:
            client.page(limit=1)
        except ApiError as exc:
            if exc.code != SCOPE_MISSING:  # a key that may not read jobs is still one
                raise
    stored = StoredKeys()
    stored.set(url, key)
    if as_json:
        print_json({"api_url": api_url, "stored_in": str(stored.path)})
    else:
        click.echo(f"Stored the key for {api_url} in {stored.path}.", err=True)
    if (os.environ.get("MMAUDIO_API_KEY") or key) != key:
        print_notice("other_key", "MMAUDIO_API_KEY is set to another key, which goes before it.", as_json=as_json)


@click.command(cls=ServerCommand, exit_codes=LOCAL)
@api_url_option
@json_option
def logout(api_url: str, as_json: bool) -> None:
    """Remove the stored API key of a server from this machine. It stays valid; `mmaudio keys revoke` ends it."""
    stored = StoredKeys()
    removed = stored.remove(parse_address(api_url))
    if as_json:
        print_json({"api_url": api_url, "removed": removed})
    else:
        what = "Removed the key for" if removed else "There is no stored key for"
        click.echo(f"{what} {api_url}.", err=True)


def _read_key(api_url: str) -> str:
    if _is_terminal():
        try:
            question = f"API key for {api_url}"
            text = str(click.prompt(question, hide_input=True, err=True, default="", show_default=False))
        except click.Abort:  # Ctrl-C
            raise InterruptedWaitError("Interrupted; nothing was stored.") from None
    else:
        text = sys.stdin.readline(LONGEST_KEY)
    key = text.strip()
    if not key:
        raise click.UsageError("The key is empty; nothing was stored.")
    return key


def _is_terminal() -> bool:
    return sys.stdin.isatty()
