"""The options of `mmaudio worker`, checked before it starts anything."""

from __future__ import annotations

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from workers.cli import byte_size, worker


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_DATA_DIR", str(tmp_path))
    # The command hands its options to child processes through the environment; this puts it back.
    monkeypatch.setattr(os, "environ", os.environ.copy())


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--variants", "no_such_one"], "--variants is 'no_such_one'; give names from tiny_16k, small_16k"),
        (
            ["--variants", "tiny_16k", "--preload", "small_16k"],
            "MMAUDIO_PRELOAD names 'small_16k'; give names of MMAUDIO_VARIANTS, which has tiny_16k.",
        ),
        (["--memory-budget", "plenty"], "such as 20GiB"),
        # Nothing is wrong with these, so the next check fails.
        (["--variants", "tiny_16k", "--preload", "tiny_16k", "--memory-budget", "20GiB"], "No broker"),
    ],
)
def test_options_that_are_not_allowed_are_refused_with_what_is(options: list[str], said: str) -> None:
    result = CliRunner().invoke(worker, options)

    assert result.exit_code == 2
    assert said in result.output


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1024", 1024), ("2k", 2048), ("20GiB", 20 * 1024**3), ("1.5 GB", 3 * 1024**3 // 2), ("3MiB", 3 * 1024**2)],
)
def test_sizes_are_read_as_people_write_them(text: str, size_bytes: int) -> None:
    assert byte_size(text) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 XB", "1e9"])
def test_a_text_that_is_not_a_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 20GiB"):
        byte_size(text)
