"""Runs the `mmaudio` command inside the test."""

from __future__ import annotations

from collections.abc import Callable

from click.testing import CliRunner, Result

from mmaudio_client.cli import main

Command = Callable[..., Result]


def run(*arguments: str) -> Result:
    """Run the command; an error that it does not report in a sentence fails the test."""
    result = CliRunner().invoke(main, list(arguments))
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    return result
