"""The base of the commands that talk to a server: its address and key, `--json`, errors and exit codes."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from mmaudio_client.cli.error_output import print_error, print_notice
from mmaudio_client.cli.exit_codes import ExitCode, epilog, exit_code_of
from mmaudio_client.client import Client
from mmaudio_client.connection import DEFAULT_URL
from mmaudio_client.errors import ClientError
from mmaudio_client.outage import DEFAULT_PATIENCE_S, MAX_PATIENCE_S


class ServerCommand(click.Command):
    """A command that talks to a server. Every error leaves as a sentence, or as JSON, with its own exit code.

    Args:
        exit_codes: those that its help lists; default: all.
    """

    def __init__(self, *args: Any, exit_codes: Iterable[ExitCode] = ExitCode, **kwargs: Any) -> None:
        kwargs.setdefault("epilog", epilog(exit_codes))
        super().__init__(*args, **kwargs)

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with json_usage_errors(args):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            raise  # `mmaudio list | head`: click ends quietly
        except click.UsageError as exc:
            if not ctx.params.get("as_json"):
                raise  # click also prints the usage line
            self._leave(exc, as_json=True)
        except (ClientError, OSError, KeyboardInterrupt) as exc:
            self._leave(exc, as_json=bool(ctx.params.get("as_json")))

    @staticmethod
    def _leave(error: BaseException, *, as_json: bool) -> None:
        print_error(error, as_json=as_json)
        raise click.exceptions.Exit(int(exit_code_of(error))) from error


class CommandGroup(click.Group):
    """A group of commands, which reports an unknown one as JSON too."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        with json_usage_errors(args):
            return super().resolve_command(ctx, args)


@contextmanager
def json_usage_errors(args: list[str]) -> Iterator[None]:
    """Print usage errors as JSON when the arguments ask for JSON; they occur before options are parsed."""
    as_json = "--json" in args  # now: click empties the list while it parses
    try:
        yield
    except click.UsageError as exc:
        if not as_json:
            raise
        print_error(exc, as_json=True)
        raise click.exceptions.Exit(int(ExitCode.USAGE)) from exc


api_url_option = click.option(
    "--api-url",
    envvar="MMAUDIO_API_URL",
    default=DEFAULT_URL,
    show_default=True,
    show_envvar=True,
    help="Address of the server.",
)
api_key_option = click.option(
    "--api-key",
    envvar="MMAUDIO_API_KEY",
    show_envvar=True,
    help="API key, if the server needs one. Default: the one that `mmaudio login` stored.",
)
json_option = click.option(
    "--json", "as_json", is_flag=True, help="Print results as JSON, one document per line, and errors as well."
)


def open_client(api_url: str, api_key: str | None, *, as_json: bool, patience_s: float | None = None) -> Client:
    """Return a client for a command, which says what it waits for on the standard error output."""
    return Client(
        api_url,
        api_key=api_key,
        patience_s=patience_s,
        wait_for_server=patience_s is not None,
        on_outage=functools.partial(print_notice, "server_unavailable", as_json=as_json),
    )


def with_server(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options for the server and for JSON; pass the command a client and `as_json`."""

    @api_url_option
    @api_key_option
    @click.option(
        "--patience",
        "patience_s",
        type=click.FloatRange(0, MAX_PATIENCE_S),
        metavar="SECONDS",
        help="Wait this long when the server stops answering, as in a restart; 0: do not wait. "
        f"Default: {DEFAULT_PATIENCE_S:.0f}, but at once an error when the first call of the command cannot connect.",
    )
    @json_option
    @functools.wraps(command)
    def wrapped(api_url: str, api_key: str | None, patience_s: float | None, **arguments: Any) -> None:
        as_json = bool(arguments.get("as_json"))
        with open_client(api_url, api_key, as_json=as_json, patience_s=patience_s) as client:
            command(client=client, **arguments)

    return wrapped


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document in one line."""
    click.echo(json.dumps(document))
