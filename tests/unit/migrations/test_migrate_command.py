"""`mmaudio migrate` ends with one sentence when the database cannot be used."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from migrations.cli import migrate


@pytest.mark.parametrize(
    ("content", "options", "said"),
    [
        (b"not a database" * 100, [], "Error: Cannot use the database sqlite:///{path}: file is not a database\n"),
        (b"", ["--revision", "9999"], "Error: Cannot migrate sqlite:///{path}: Can't locate revision identified by"),
    ],
)
def test_a_database_that_cannot_be_migrated_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, options: list[str], said: str
) -> None:
    path = tmp_path / "mmaudio.db"
    path.write_bytes(content)
    monkeypatch.setenv("MMAUDIO_DATABASE_URL", f"sqlite:///{path}")
    result = CliRunner().invoke(migrate, options)

    assert result.exit_code == 1
    assert result.output.startswith(said.format(path=path))
    assert result.output.count("\n") == 1


def test_a_folder_of_the_database_that_cannot_be_made_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("MMAUDIO_DATABASE_URL", f"sqlite:///{tmp_path}/file/mmaudio.db")
    result = CliRunner().invoke(migrate)

    assert result.exit_code == 2
    assert result.output.startswith(f"Error: MMAUDIO_DATABASE_URL names {tmp_path}/file, which is not a folder")
