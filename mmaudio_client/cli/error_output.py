"""Errors of the commands, for people or as JSON, on the standard error output."""

from __future__ import annotations

import json
from typing import Any

import click

from mmaudio_client.errors import (
    AmbiguousJobIdError,
    ApiError,
    AuthenticationError,
    ClientError,
    JobCanceledError,
    JobFailedError,
    UnreachableError,
)

HINT = "Is the platform running (`mmaudio up`), and is this its address (--api-url, MMAUDIO_API_URL)? --patience waits."

KEY_HINT = "Give a key with --api-key or MMAUDIO_API_KEY, or store one with `mmaudio login`."


class InterruptedWaitError(KeyboardInterrupt):
    """Raised when Ctrl-C ends the wait for a job, which continues."""


def print_error(error: BaseException, *, as_json: bool, **context: Any) -> None:
    """Print an error as a sentence, or as one line `{"error": {"code", "message", ...}}`.

    Args:
        context: further members for JSON; `input` also begins the sentence.
    """
    if as_json:
        click.echo(json.dumps({"error": {**_document(error), **context}}), err=True)
        return
    label = f"{context['input']}: " if "input" in context else ""
    click.echo(f"Error: {label}{message_of(error)}", err=True)


def print_notice(code: str, sentence: str, *, as_json: bool) -> None:
    """Print what a person should know while the command goes on, as a sentence or as `{"notice": {...}}`."""
    click.echo(json.dumps({"notice": {"code": code, "message": sentence}}) if as_json else sentence, err=True)


def message_of(error: BaseException) -> str:
    """Return what an error says to a person."""
    match error:
        case JobFailedError():
            return f"The job failed: {error}"
        case UnreachableError():
            return f"{str(error).rstrip('.')}. {HINT}"
        case AuthenticationError():
            return f"{str(error).rstrip('.')}. {KEY_HINT}"
        case click.ClickException():
            return error.format_message()
        case OSError() if not isinstance(error, ClientError):
            reason = error.strerror or str(error)
            return f"{reason}: {error.filename}" if error.filename else reason
        case KeyboardInterrupt():
            return str(error) or "Interrupted."
        case _:
            return str(error)


def _document(error: BaseException) -> dict[str, Any]:
    document: dict[str, Any] = {"code": _code_of(error), "message": message_of(error)}
    match error:
        case ApiError():
            document["status"] = error.status
            document["fields"] = error.fields
        case AmbiguousJobIdError():
            document["candidates"] = list(error.candidates)
        case JobFailedError() | JobCanceledError():
            document["job_id"] = error.job.id
        case _:
            pass
    return document


def _code_of(error: BaseException) -> str:
    match error:
        case ApiError():
            return error.code or f"http_{error.status}"
        case ClientError():
            return error.code
        case click.UsageError():
            return str(getattr(error, "code", "usage"))
        case KeyboardInterrupt():
            return "interrupted"
        case _:
            return "file_error"
