"""Every option and argument of the model's commands is described, with its unit where it has one."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from mmaudio_model.cli.command import LocalCommand
from mmaudio_model.cli.eval import eval_
from mmaudio_model.cli.generate import generate
from mmaudio_model.cli.gradio import gradio
from mmaudio_model.cli.train import train
from mmaudio_model.cli.weights import weights

ROOTS = {"eval": eval_, "generate": generate, "gradio": gradio, "train": train, "weights": weights}
UNITS = {"duration": "seconds"}
"""Parameters whose values have a unit, and the word that must be in their description."""


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        for sub, each in command.commands.items():
            yield from walk(each, f"{name} {sub}")


COMMANDS = dict(pair for name, root in ROOTS.items() for pair in walk(root, name))
LEAVES = {name: command for name, command in COMMANDS.items() if not isinstance(command, click.Group)}


def test_all_commands_are_walked() -> None:
    assert {"eval folders", "generate", "gradio", "train finetune", "train merge-lora", "weights verify"} <= set(LEAVES)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_says_what_it_does(name: str) -> None:
    summary = (COMMANDS[name].help or "").partition("\n\n")[0]

    assert summary[:1].isupper()
    assert summary.endswith((".", ":")) or ":" in summary


@pytest.mark.parametrize("name", LEAVES)
def test_every_option_and_argument_is_described(name: str) -> None:
    command = LEAVES[name]
    for parameter in command.params:
        if isinstance(parameter, click.Argument):
            metavar = str(parameter.metavar).strip("[].")
            assert metavar in (command.help or ""), f"{name} {metavar}"
            continue
        assert isinstance(parameter, click.Option)
        description = parameter.help or ""
        assert len(description) > 10, f"{name} {parameter.opts}"
        assert description[0].isupper(), f"{name} {parameter.opts}: {description}"
        assert description.endswith((".", "...")), f"{name} {parameter.opts}: {description}"
        assert UNITS.get(str(parameter.name), "") in description.lower(), f"{name} {parameter.opts}"


@pytest.mark.parametrize("name", LEAVES)
def test_every_command_leaves_with_sentences_and_exit_codes(name: str) -> None:
    assert isinstance(LEAVES[name], LocalCommand)
    assert "Exit codes:" in CliRunner().invoke(LEAVES[name], ["--help"]).output


@pytest.mark.parametrize("name", [name for name in LEAVES if name != "gradio"])
def test_every_command_that_ends_can_print_json(name: str) -> None:
    assert any("--json" in parameter.opts for parameter in LEAVES[name].params)


@pytest.mark.parametrize("name", [name for name, command in COMMANDS.items() if isinstance(command, click.Group)])
def test_a_group_describes_each_command_in_a_line_that_is_not_cut(name: str) -> None:
    shown = CliRunner().invoke(COMMANDS[name], ["--help"], terminal_width=80).output

    assert not [line for line in shown.splitlines()[1:] if line.endswith("...")]


def test_files_of_labels_and_captions_are_described() -> None:
    described = {parameter.name: getattr(parameter, "help", "") for parameter in LEAVES["eval folders"].params}

    for name in ("labels_file", "captions_file"):
        assert described[name].startswith("JSON object that maps file names (without suffix) to ")
