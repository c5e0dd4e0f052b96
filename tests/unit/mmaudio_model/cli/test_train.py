"""What `mmaudio train` prints is what the next command takes; errors of processes are sentences."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mmaudio_model.cli.train import train
from mmaudio_model.training import processes, recipe


class FinishedRun:
    """A run that has nothing to do."""

    def __init__(self, _variant: object, _recipe: object, folder: Path, **_: object) -> None:
        self.weights = folder / "weights"

    def run(self, _parts: object) -> None:
        """Do nothing."""


def test_world_prints_the_folder_that_weights_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recipe, "RecipeRun", FinishedRun)
    arguments = ["world", "--run", str(tmp_path)]

    assert CliRunner().invoke(train, arguments).stdout == f"{tmp_path / 'weights'}\n"
    assert json.loads(CliRunner().invoke(train, [*arguments, "--json"]).stdout) == {
        "weights": str(tmp_path / "weights")
    }


@pytest.mark.parametrize(
    ("failure", "sentence"),
    [
        (
            'Process 1 of 2 failed.\nTraceback (most recent call last):\n  File "a.py"\n'
            "mmaudio_model.errors.TrainingDataError: Got clips, which contains no shards: prepare them.\n",
            "Got clips, which contains no shards: prepare them.",
        ),
        ("Process 1 of 2 failed.\nZeroDivisionError: ours", "Process 1 of 2 failed.\nZeroDivisionError: ours"),
    ],
)
def test_a_failed_process_gives_its_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: str, sentence: str
) -> None:
    def fail(*_: Any) -> None:
        raise processes.ProcessFailedError(failure)

    monkeypatch.setattr(processes, "run_in_processes", fail)
    given = ["finetune", "--variant", "tiny_16k", "--clips", str(tmp_path), "--run", str(tmp_path / "run")]
    result = CliRunner().invoke(train, [*given, "--device", "cpu"])

    assert (result.exit_code, result.stderr) == (1, f"Error: {sentence}\n")
