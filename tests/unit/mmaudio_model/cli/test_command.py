"""Errors of the model's commands: one sentence or one JSON document, an exit code, no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable

import click
import pytest
import torch
from click.testing import CliRunner, Result

from mmaudio_model.cli.command import LocalCommand, print_json
from mmaudio_model.cli.options import FiniteFloatRange, as_json
from mmaudio_model.errors import (
    DeviceUnavailableError,
    MediaInvalidError,
    ModelError,
    OutputNotWritableError,
    RequestInvalidError,
    UnknownVariantError,
    WeightsBrokenError,
    WeightsFolderError,
    WeightsMissingError,
)


def command(action: Callable[[], None]) -> click.Command:
    @click.command("make", cls=LocalCommand, extra="demo")
    @click.option("--number", type=FiniteFloatRange(0, 2))
    @as_json
    def make(number: float | None, as_json: bool) -> None:
        action()
        if as_json:
            print_json({"number": number, "name": "雨"})

    return make


def failing(error: BaseException) -> click.Command:
    def fail() -> None:
        raise error

    return command(fail)


def run(make: click.Command, *arguments: str) -> Result:
    return CliRunner().invoke(make, arguments)


def error_of(result: Result) -> dict[str, str]:
    """Return the error document, the only line of all output."""
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    document: dict[str, dict[str, str]] = json.loads(line)
    return document["error"]


ERRORS: list[tuple[BaseException, int, str, str]] = [
    (MediaInvalidError("Not a video."), 1, "media_invalid", "Not a video."),
    (WeightsBrokenError("Empty."), 1, "weights_broken", "Empty."),
    (RequestInvalidError("Too long."), 2, "request_invalid", "Too long."),
    (UnknownVariantError("No huge."), 2, "unknown_variant", "No huge."),
    (WeightsMissingError("Fetch it."), 2, "weights_missing", "Fetch it."),
    (WeightsFolderError("No folder."), 2, "weights_folder_invalid", "No folder."),
    (DeviceUnavailableError("No cuda."), 2, "device_unavailable", "No cuda."),
    (OutputNotWritableError("Cannot write."), 2, "output_not_writable", "Cannot write."),
    (OSError(28, "No space left on device", "a.flac"), 1, "file_error", "No space left on device: a.flac"),
    (OSError("odd"), 1, "file_error", "odd"),
    (click.ClickException("No."), 1, "failed", "No."),
]


@pytest.mark.parametrize(("error", "exit_code", "code", "sentence"), ERRORS)
def test_an_error_is_a_sentence_with_an_exit_code(error: Exception, exit_code: int, code: str, sentence: str) -> None:
    text, document = run(failing(error)), run(failing(error), "--json")

    assert (text.exit_code, text.stdout, text.stderr) == (exit_code, "", f"Error: {sentence}\n")
    assert (document.exit_code, error_of(document)) == (exit_code, {"code": code, "message": sentence})


@pytest.mark.parametrize("arguments", [["--number", "3"], ["--number", "many"], ["--nothing"]])
def test_wrong_arguments_are_json_too(arguments: list[str]) -> None:
    text, document = run(command(lambda: None), *arguments), run(command(lambda: None), *arguments, "--json")

    assert text.exit_code == document.exit_code == 2
    assert text.stderr.startswith("Usage: ")
    assert error_of(document)["code"] == "usage"


@pytest.mark.parametrize("number", ["nan", "inf", "-inf", "-nan"])
def test_a_number_that_is_none_is_refused(number: str) -> None:
    result = run(command(lambda: None), f"--number={number}")

    assert result.exit_code == 2
    assert "Invalid value for '--number'" in result.stderr


def test_a_package_that_is_not_installed_is_named_with_its_extra() -> None:
    result = run(failing(ModuleNotFoundError("No module named 'gradio'", name="gradio.blocks")))

    assert result.exit_code == 1
    assert "needs gradio.blocks, which is not installed" in result.stderr
    assert "pip install 'mmaudio-platform[demo]'" in result.stderr


def test_too_little_memory_is_a_sentence() -> None:
    result = run(failing(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")), "--json")

    assert (result.exit_code, error_of(result)["code"]) == (1, "out_of_memory")


@pytest.mark.parametrize(
    "error", [RuntimeError("ours"), ValueError("ours"), ModuleNotFoundError("ours", name="mmaudio_model.gone")]
)
def test_a_fault_of_ours_keeps_its_traceback(error: Exception) -> None:
    assert run(failing(error)).exception is error


def test_a_closed_pipe_ends_quietly() -> None:
    # click turns it into exit status 1 without a word.
    result = run(failing(BrokenPipeError(32, "Broken pipe")))

    assert (result.exit_code, result.output) == (1, "")


def test_results_are_one_line_of_json() -> None:
    assert run(command(lambda: None), "--json", "--number", "1").stdout == '{"number": 1.0, "name": "雨"}\n'


def test_every_error_of_the_model_has_its_own_code() -> None:
    classes = [ModelError]
    for each in classes:
        classes += each.__subclasses__()

    codes = [each.code for each in classes if each.__module__ == ModelError.__module__]
    assert len(set(codes)) == len(codes)
