"""What `mmaudio worker` refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from workers.cli import ByteSize, worker


@pytest.fixture
def harness(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_DATA_DIR", str(tmp_path))
    # The command hands its options to its children through these; they are set back afterwards.
    for name in ("VARIANTS", "PRELOAD", "MODEL_MEMORY_BYTES"):
        monkeypatch.setenv(f"MMAUDIO_{name}", "0" if name.endswith("BYTES") else "")


@pytest.mark.usefixtures("harness")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--variants", "no_such_one"], "variants names 'no_such_one'; there are tiny_16k, small_16k"),
        (["--variants", "tiny_16k", "--preload", "small_16k"], "preload names 'small_16k'; there are tiny_16k."),
        (["--memory-budget", "plenty"], "such as 20GiB"),
        # Nothing is wrong with these, and so the next thing is missing.
        (["--variants", "tiny_16k,small_16k", "--preload", "small_16k", "--memory-budget", "20GiB"], "No broker"),
    ],
)
def test_options_that_cannot_be_are_refused_with_what_is_allowed(options: list[str], said: str) -> None:
    result = CliRunner().invoke(worker, options)

    assert result.exit_code != 0
    assert said in result.output


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("1024", 1024), ("2k", 2048), ("20GiB", 20 * 1024**3), ("1.5 GB", 3 * 1024**3 // 2), ("3MiB", 3 * 1024**2)],
)
def test_sizes_are_read_as_people_write_them(text: str, size_bytes: int) -> None:
    assert ByteSize().convert(text, None, None) == size_bytes


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 XB", "1e9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match="such as 20GiB"):
        ByteSize().convert(text, None, None)
