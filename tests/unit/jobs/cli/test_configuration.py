"""Every command of the platform refuses a setting with one sentence and exit status 2, before it starts anything."""

from __future__ import annotations

import os
from importlib.metadata import entry_points
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from jobs.cli.configuration import load_settings_or_exit
from jobs.cli.options import load_with_port

COMMANDS = [["up"], ["api"], ["worker"], ["control"], ["migrate"], ["settings"], ["queue", "show"], ["doctor"]]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("MMAUDIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    # Commands hand their options to child processes through the environment; this puts it back.
    monkeypatch.setattr(os, "environ", os.environ.copy())


def run(arguments: list[str]) -> tuple[int, str]:
    (command,) = entry_points(group="mmaudio.commands", name=arguments[0])
    result = CliRunner().invoke(command.load(), arguments[1:])
    return result.exit_code, result.output


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_value_that_is_not_allowed_ends_the_command(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_LEASE_S", "abc")
    assert run(arguments) == (2, "Error: MMAUDIO_LEASE_S is 'abc'; give a number greater than 0, at most 86400.\n")


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_name_that_was_renamed_ends_the_command(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_SWEEP_S", "1")
    assert run(arguments) == (
        2,
        "Error: MMAUDIO_SWEEP_S has been renamed; set MMAUDIO_MAINTENANCE_INTERVAL_S instead.\n",
    )


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_broken_file_ends_the_command(arguments: list[str], tmp_path: Path) -> None:
    (tmp_path / "mmaudio.toml").write_text("worker_slots = \n")
    status, output = run(arguments)
    assert status == 2
    assert output.startswith("Error: mmaudio.toml is not TOML (")
    assert output.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["up", "--bind", "8102"], "--bind is '8102'; give address:port, such as 127.0.0.1:8102."),
        (["api", "--bind", "8102"], "--bind is '8102'; give address:port, such as 127.0.0.1:8102."),
        (["up", "--devices", "foo"], "--devices is 'foo'; give auto, or a list such as"),
        (["worker", "--devices", "foo"], "--devices is 'foo'; give auto, or a list such as"),
        (["up", "--variants", "foo"], "--variants is 'foo'; give names from tiny_16k,"),
        (["worker", "--preload", "foo"], "--preload is 'foo'; give names from tiny_16k,"),
        (["up", "--data-dir", "file"], "MMAUDIO_DATA_DIR names {folder}/file, which is not a folder;"),
        (["api", "--data-dir", "file/data"], "No broker"),
        (["up", "--bind", "0.0.0.0:8000"], "MMAUDIO_API_BIND is '0.0.0.0:8000', which other machines can reach,"),
        (["up", "--devices", "cuda:0"], "MMAUDIO_DEVICES is 'cuda:0'; this machine has no cuda:0 (CUDA devices: none)"),
        (["up", "--variants", "small_16k"], "MMAUDIO_VARIANTS names 'small_16k', whose weights are not in"),
        (["worker", "--variants", "small_16k"], "MMAUDIO_VARIANTS names 'small_16k', whose weights are not in"),
        (["control"], "No broker: MMAUDIO_BROKER_URL is not set and no `mmaudio up` runs on"),
    ],
)
def test_what_this_machine_cannot_do_ends_the_command(
    arguments: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "weights").mkdir()
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("MMAUDIO_REQUIRE_API_KEY", "false")
    monkeypatch.setattr("workers.host.devices.cuda_uuids", list)
    status, output = run(arguments)

    assert status == 2
    assert output.startswith(f"Error: {said.format(folder=tmp_path)}")
    assert output.count("\n") == 1


@pytest.mark.parametrize("command", ["up", "api", "worker", "control"])
def test_help_names_the_options_of_the_start(command: str) -> None:
    _, output = run([command, "--help"])
    expected = {
        "up": ["--bind", "--port", "--data-dir", "--devices", "--variants"],
        "api": ["--bind", "--port", "--data-dir"],
        "worker": ["--data-dir", "--devices", "--variants"],
        "control": ["--data-dir"],
    }
    assert all(option in output for option in expected[command])
    assert "--under-up" not in output


def test_an_option_wins_over_the_environment_and_reaches_child_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_API_BIND", "127.0.0.1:1")
    settings = load_settings_or_exit(api_bind="127.0.0.1:2", devices=None)

    assert settings.api_port == 2
    assert os.environ["MMAUDIO_API_BIND"] == "127.0.0.1:2"
    assert "MMAUDIO_DEVICES" not in os.environ


def test_an_empty_data_folder_is_the_default_and_not_the_current_folder() -> None:
    assert load_with_port(None, data_dir="").data_dir == Path("data").absolute()


def test_a_port_alone_keeps_the_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_API_BIND", "[::1]:1")
    assert load_with_port(7000).api_bind == "[::1]:7000"
    assert load_with_port(None).api_bind == "[::1]:7000"  # as a child process gets it


def test_a_variable_that_nothing_reads_is_a_warning_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_LEASE_MS", "3")
    monkeypatch.setenv("MMAUDIO_API_KEY", "k")

    @click.command()
    def command() -> None:
        load_settings_or_exit()
        load_settings_or_exit()

    result = CliRunner().invoke(command)

    assert result.exit_code == 0
    assert result.output == (
        "mmaudio: warning: MMAUDIO_LEASE_MS is not a setting and has no effect (did you mean MMAUDIO_LEASE_S?).\n"
    )
    assert os.environ["MMAUDIO_API_KEY"] == "k"
