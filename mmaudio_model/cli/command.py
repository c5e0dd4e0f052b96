"""The base of the commands that run the model on this machine: errors as one sentence or as JSON, and exit codes."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import click

from mmaudio_model.errors import (
    DeviceUnavailableError,
    ModelError,
    OutputNotWritableError,
    RequestInvalidError,
    UnknownVariantError,
    WeightsMissingError,
)

EXIT_FAILED, EXIT_USAGE = 1, 2
USAGE_ERRORS = (
    DeviceUnavailableError,
    OutputNotWritableError,
    RequestInvalidError,
    UnknownVariantError,
    WeightsMissingError,
)
"""Errors that other arguments or settings would avoid; nothing was generated."""
EPILOG = "Exit codes: 0 success, 1 failure, 2 wrong arguments or settings."
OWN_PACKAGES = ("api", "jobs", "migrations", "mmaudio_client", "mmaudio_model", "workers")


class LocalCommand(click.Command):
    """A command whose errors leave as one sentence, or as JSON with `--json`, and never as a traceback.

    Args:
        extra: the extra of the distribution that brings the packages it imports.
    """

    def __init__(self, *args: Any, extra: str = "worker", **kwargs: Any) -> None:
        kwargs.setdefault("epilog", EPILOG)
        super().__init__(*args, **kwargs)
        self.extra = extra

    def make_context(
        self, info_name: str | None, args: list[str], parent: click.Context | None = None, **extra: Any
    ) -> click.Context:
        with _json_errors("--json" in args):
            return super().make_context(info_name, args, parent, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        with _json_errors(bool(ctx.params.get("as_json"))), self._sentences(ctx):
            return super().invoke(ctx)

    @contextmanager
    def _sentences(self, ctx: click.Context) -> Iterator[None]:
        try:
            yield
        except BrokenPipeError:
            raise  # `mmaudio weights list | head`: click ends quietly
        except ModelError as exc:
            kind = CommandUsageError if isinstance(exc, USAGE_ERRORS) else CommandError
            raise kind(str(exc), code=exc.code) from exc
        except OSError as exc:
            reason = exc.strerror or str(exc)
            message = f"{reason}: {exc.filename}" if exc.filename else reason
            raise CommandError(message, code="file_error") from exc
        except RuntimeError as exc:
            torch = sys.modules.get("torch")  # not imported here: most wrong arguments are found without it
            if torch is None or not isinstance(exc, torch.OutOfMemoryError):
                raise
            raise CommandError(
                "The device has too little memory; use a shorter duration, fewer samples at once or a smaller variant.",
                code="out_of_memory",
            ) from exc
        except ModuleNotFoundError as exc:
            if exc.name is None or exc.name.partition(".")[0] in OWN_PACKAGES:
                raise  # a fault of ours, not an extra that is not installed
            raise CommandError(
                f"`{ctx.command_path}` needs {exc.name}, which is not installed. "
                f"Install it with: pip install 'mmaudio-platform[{self.extra}]'",
                code="not_installed",
            ) from exc


class LocalGroup(click.Group):
    """A group of local commands, which reports an unknown command as JSON too."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        with _json_errors("--json" in args):
            return super().resolve_command(ctx, args)


class CommandError(click.ClickException):
    """Raised to leave a command with a sentence.

    Attributes:
        code: for programs; the same as `ModelError.code` where there is one.
    """

    exit_code = EXIT_FAILED

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code


class CommandUsageError(CommandError):
    """Raised for arguments or settings that cannot work, without click's usage lines."""

    exit_code = EXIT_USAGE


def print_json(document: Mapping[str, Any]) -> None:
    """Print a document in one line on the standard output."""
    click.echo(json.dumps(document, ensure_ascii=False))


@contextmanager
def _json_errors(as_json: bool) -> Iterator[None]:
    """Print errors as one line `{"error": {"code", "message"}}` on the standard error output, as the client does."""
    try:
        yield
    except click.ClickException as exc:
        if not as_json:
            raise
        code = exc.code if isinstance(exc, CommandError) else "usage" if isinstance(exc, click.UsageError) else "failed"
        error = {"code": code, "message": exc.format_message()}
        click.echo(json.dumps({"error": error}, ensure_ascii=False), err=True)
        raise click.exceptions.Exit(exc.exit_code) from exc
