"""Exit codes of the commands that talk to a server, and which error leads to which."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

import click

from mmaudio_client.errors import (
    AmbiguousJobIdError,
    ApiError,
    InvalidAddressError,
    InvalidInputError,
    InvalidJobIdError,
    InvalidKeyError,
    JobCanceledError,
    JobFailedError,
    UnavailableError,
    WrongServerError,
)

SERVER_ERRORS = 500  # HTTP statuses from here on are the server's fault


class ExitCode(IntEnum):
    """What a command leaves with; part of the public interface."""

    OK = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    CANCELED = 4
    UNREACHABLE = 5
    FILES = 6
    INTERRUPTED = 130

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    ExitCode.OK: "success",
    ExitCode.FAILED: "a job failed",
    ExitCode.USAGE: "wrong arguments; nothing was sent",
    ExitCode.REFUSED: "the server refused the request (HTTP 4xx)",
    ExitCode.CANCELED: "a job was canceled",
    ExitCode.UNREACHABLE: "the server cannot be reached, or cannot serve (HTTP 5xx)",
    ExitCode.FILES: "a result could not be saved",
    ExitCode.INTERRUPTED: "interrupted with Ctrl-C; submitted jobs continue",
}
# Of several jobs, the first of these that occurred.
_WORST_FIRST = (
    ExitCode.UNREACHABLE,
    ExitCode.FILES,
    ExitCode.REFUSED,
    ExitCode.USAGE,
    ExitCode.FAILED,
    ExitCode.CANCELED,
)


def epilog(codes: Iterable[ExitCode]) -> str:
    """Return the list of exit codes at the end of a command's help."""
    return "\b\nExit codes:\n" + "\n".join(f"{code.value:>5}  {code.meaning}" for code in codes)


EPILOG = epilog(ExitCode)
WATCHING = tuple(code for code in ExitCode if code is not ExitCode.FILES)
"""Exit codes of a command that waits for a job and saves no files."""
ASKING = tuple(code for code in WATCHING if code not in {ExitCode.FAILED, ExitCode.CANCELED})
"""Exit codes of a command that neither waits for a job nor saves files."""


LOCAL = (ExitCode.OK, ExitCode.USAGE, ExitCode.FILES)
"""Exit codes of a command that talks to no server."""


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an exception that ended a command."""
    match error:
        case JobFailedError():
            return ExitCode.FAILED
        case JobCanceledError():
            return ExitCode.CANCELED
        case InvalidAddressError() | InvalidKeyError() | InvalidInputError():
            return ExitCode.USAGE
        case InvalidJobIdError() | AmbiguousJobIdError() | click.UsageError():
            return ExitCode.USAGE
        case ApiError():
            return ExitCode.UNREACHABLE if error.status >= SERVER_ERRORS else ExitCode.REFUSED
        case UnavailableError() | WrongServerError():
            return ExitCode.UNREACHABLE
        case KeyboardInterrupt():
            return ExitCode.INTERRUPTED
        case _:
            return ExitCode.FILES


def worst(codes: Iterable[ExitCode]) -> ExitCode:
    """Return the exit code of a command that did several things."""
    occurred = set(codes)
    return next((code for code in _WORST_FIRST if code in occurred), ExitCode.OK)
