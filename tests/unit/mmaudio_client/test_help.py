"""What `--help` says: every command, option and argument is described, and the exit codes are listed."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mmaudio_client.cli.commands import CLIENT_COMMANDS, EXTRAS, GROUP, SERVER_COMMANDS
from mmaudio_client.cli.exit_codes import LOCAL, ExitCode
from tests.unit.mmaudio_client.command_runner import run

ROOT = Path(__file__).parents[3]
POINTS: dict[str, str] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"][GROUP]


def commands() -> Iterator[tuple[str, click.Command]]:
    """Every command of this package, those of groups included."""
    for name, one in sorted(CLIENT_COMMANDS.items()):
        command = one.load()
        assert isinstance(command, click.Command)
        yield name, command
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", found) for inner, found in command.commands.items())


def test_every_command_has_a_summary_and_no_other_has() -> None:
    assert set(SERVER_COMMANDS) == set(POINTS)
    assert not set(CLIENT_COMMANDS) & set(POINTS)
    assert set(EXTRAS) <= set(CLIENT_COMMANDS) | set(POINTS) | {"mcp"}
    summaries = [*SERVER_COMMANDS.values(), *(one.summary for one in CLIENT_COMMANDS.values())]
    assert all(summary.endswith(".") and len(summary) < 80 for summary in summaries)


@pytest.mark.parametrize(("name", "command"), [*commands()])
def test_every_option_and_argument_is_described(name: str, command: click.Command) -> None:
    assert command.help, name
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
        else:
            assert parameter.make_metavar(click.Context(command)).strip("[].") in command.help, parameter.name


@pytest.mark.parametrize("name", [name for name, command in commands() if not isinstance(command, click.Group)])
def test_every_command_lists_the_exit_codes_that_it_has_and_takes_json(name: str) -> None:
    shown = run(*name.split(), "--help").stdout
    has = {code for code in ExitCode if f"{code.value}  {code.meaning}" in shown}
    assert "--json" in shown
    if name in {"completion", "logout", "mcp"}:
        assert has == set(LOCAL)
        return
    waits = set() if name in {"submit", "retry", "download"} else {ExitCode.FILES}
    ends = (
        set()
        if name in {"submit", "retry", "download", "watch", "batches watch"}
        else {ExitCode.FAILED, ExitCode.CANCELED}
    )
    assert has == set(ExitCode) - waits - ends


def test_no_text_of_a_help_is_cut() -> None:
    assert "..." not in run("triggers", "--help").stdout.partition("Commands:")[2]
    shown = run("submit", "--help").stdout
    assert "walk-sound.mp4" in shown
    assert "Without INPUT, the prompt alone makes one job." in " ".join(shown.split())


def test_the_guide_documents_every_exit_code() -> None:
    guide = (ROOT / "docs" / "guides" / "command-line.md").read_text()
    assert all(f"| {code.value} | {code.meaning}" in guide for code in ExitCode)
