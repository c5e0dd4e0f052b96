"""Each folder that a command writes to is checked, and a refusal names the setting that chose it."""

from __future__ import annotations

import errno
import tempfile
from pathlib import Path
from typing import Any

import pytest

from jobs.settings import Settings
from jobs.settings_errors import SettingsError
from jobs.writable_folders import Role, check_folders


def refusal(settings: Settings, role: Role) -> str:
    with pytest.raises(SettingsError) as refused:
        check_folders(settings, role)
    return str(refused.value)


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("data_dir", "up"),
        ("data_dir", "api"),
        ("data_dir", "worker"),
        ("data_dir", "control"),
        ("scratch_dir", "up"),
        ("scratch_dir", "worker"),
        ("feature_cache_dir", "up"),
        ("feature_cache_dir", "worker"),
        ("inbox_dir", "up"),
        ("inbox_dir", "control"),
    ],
)
@pytest.mark.parametrize("below", ["", "below"])
def test_a_folder_that_is_a_file_or_below_one_is_refused(tmp_path: Path, name: str, role: Role, below: str) -> None:
    path = tmp_path / "file"
    path.touch()
    options: dict[str, Any] = {"data_dir": tmp_path / "data", name: path / below}
    sentence = refusal(Settings(**options), role)

    assert sentence.startswith(f"MMAUDIO_{name.upper()} names {path}")
    assert "which is not a folder" in sentence


@pytest.mark.parametrize("role", ["up", "api", "control", "worker"])
def test_the_folder_of_the_storage_is_checked_by_all(tmp_path: Path, role: Role) -> None:
    (tmp_path / "a file").touch()
    storage = (tmp_path / "a file").as_uri()
    sentence = refusal(Settings(data_dir=tmp_path / "data", storage_url=storage), role)

    assert sentence.startswith(f"MMAUDIO_STORAGE_URL names {tmp_path}/a file, which is not a folder")


@pytest.mark.parametrize("role", ["up", "api", "control", "worker", "migrate"])
def test_the_folder_of_the_database_is_checked_by_all(tmp_path: Path, role: Role) -> None:
    (tmp_path / "file").touch()
    database = f"sqlite:///{tmp_path}/file/mmaudio.db"
    sentence = refusal(Settings(data_dir=tmp_path / "data", database_url=database), role)

    assert sentence.startswith(f"MMAUDIO_DATABASE_URL names {tmp_path}/file, which is not a folder")


@pytest.mark.parametrize("error", [errno.EACCES, errno.EROFS, errno.EPERM])
def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int
) -> None:
    def refuse(**_: object) -> None:
        raise OSError(error, "refused")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    sentence = refusal(Settings(data_dir=tmp_path), "up")

    assert sentence == (
        f"MMAUDIO_DATA_DIR names {tmp_path}, which cannot be written (refused); give a folder that this user can write."
    )


def test_a_full_disk_does_not_prevent_a_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    check_folders(Settings(data_dir=tmp_path), "up")


def test_folders_that_a_command_does_not_use_are_not_checked(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    unused = tmp_path / "file"
    elsewhere: dict[str, Any] = {"database_url": "postgresql+psycopg://h/d", "storage_url": "s3://bucket"}
    check_folders(Settings(data_dir=unused, inbox_dir=unused, **elsewhere), "control")
    check_folders(Settings(data_dir=unused, secret_key="k" * 32, scratch_dir=unused, **elsewhere), "api")
    check_folders(Settings(data_dir=unused, feature_cache_dir=tmp_path, **elsewhere), "worker")
    check_folders(Settings(data_dir=unused, storage_url=unused.as_uri(), database_url="sqlite:///x.db"), "migrate")


def test_folders_are_made(tmp_path: Path) -> None:
    check_folders(Settings(data_dir=tmp_path / "a" / "b"), "up")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["inbox", "objects"]
