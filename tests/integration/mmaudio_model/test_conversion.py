"""Conversion of one checkpoint by two processes at once."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

from huggingface_hub import constants

from mmaudio_model.checkpoints.loading import load_part
from mmaudio_model.checkpoints.parts import part_sources
from tests.published_weights import FROM_FILES


def _load_in_process(home: str, weights_dir: Path) -> None:
    constants.HF_HOME = home
    source = part_sources(FROM_FILES)["flow"]
    load_part(FROM_FILES, "flow", source, weights_dir / source.file.path)


def test_two_processes_may_convert_at_once(weights_dir: Path, converted: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_load_in_process, args=(str(converted.parent), weights_dir)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)

    assert [process.exitcode for process in processes] == [0, 0]
    names = sorted(path.suffix for path in converted.iterdir())
    assert names == [".lock", ".safetensors"]
