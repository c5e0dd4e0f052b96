"""What others on the machine may read: nothing of ours, and what is put into a folder that they share."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from jobs.private_files import close_data_folder, match_folder


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder as an earlier release made it."""
    folder = tmp_path / "data"
    for name in ("objects", "valkey", "inbox", "features"):
        (folder / name).mkdir(parents=True, mode=0o755)
    for name in ("mmaudio.db", "mmaudio.db-wal", "secret.key", "up.lock"):
        (folder / name).touch(mode=0o644)
    folder.chmod(0o755)
    return folder


def test_a_data_folder_is_closed_once(data: Path, caplog: pytest.LogCaptureFixture) -> None:
    close_data_folder(data)
    close_data_folder(data)
    assert mode(data) == 0o700
    assert caplog.text.count("could be read by other users (mode 0755)") == 1


def test_a_folder_with_entries_of_others_keeps_its_permissions_and_ours_are_closed(data: Path) -> None:
    (data / "thesis.tex").touch(mode=0o644)
    close_data_folder(data)

    assert mode(data) == 0o755
    assert mode(data / "thesis.tex") == 0o644
    assert {mode(data / name) for name in ("objects", "valkey")} == {0o700}
    assert {mode(data / name) for name in ("mmaudio.db", "secret.key")} == {0o600}


def test_a_link_in_the_folder_leads_nowhere(data: Path, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir(mode=0o777)
    (tmp_path / "shared").chmod(0o777)
    (data / "inbox").rmdir()
    (data / "inbox").symlink_to(tmp_path / "shared")
    (data / "thesis.tex").touch()
    close_data_folder(data)
    assert mode(tmp_path / "shared") == 0o777


def test_a_folder_of_another_user_is_left_alone(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    close_data_folder(data)
    assert mode(data) == 0o755


@pytest.mark.parametrize(
    ("shared", "file", "folder"), [(0o775, 0o664, 0o775), (0o700, 0o600, 0o700), (0o2770, 0o660, 0o2770)]
)
def test_what_is_put_into_a_shared_folder_is_shared_alike(tmp_path: Path, shared: int, file: int, folder: int) -> None:
    tmp_path.chmod(shared)
    (tmp_path / "file").touch(mode=0o600)
    (tmp_path / "folder").mkdir(mode=0o700)
    for name in ("file", "folder"):
        match_folder(tmp_path / name)
    assert (mode(tmp_path / "file"), mode(tmp_path / "folder")) == (file, folder)
    assert (tmp_path / "file").stat().st_gid == tmp_path.stat().st_gid
