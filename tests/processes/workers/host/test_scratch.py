"""A worker's temporary files end with it, however it ends."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.settings_errors import SettingsError
from workers.host.scratch import ScratchFolder


def left(parent: Path) -> list[str]:
    return [path.name for path in parent.glob("*/*")]


def test_a_worker_has_a_folder_of_its_own_until_it_ends(tmp_path: Path) -> None:
    one, two = ScratchFolder(tmp_path), ScratchFolder(tmp_path)
    assert one.path != two.path
    (one.path / "input").write_bytes(b"1")
    assert one.path.stat().st_mode & 0o077 == 0
    one.close()
    assert left(tmp_path) == [two.path.name]
    two.close()
    assert left(tmp_path) == []


def test_what_a_killed_worker_left_is_removed_by_the_next_and_nothing_else(tmp_path: Path) -> None:
    living = ScratchFolder(tmp_path)
    killed = living.path.parent / "worker-killed"  # nobody holds its lock: the kernel has released it
    killed.mkdir()
    (killed / "input").write_bytes(b"1")
    another = ScratchFolder(tmp_path)
    assert sorted(left(tmp_path)) == sorted([living.path.name, another.path.name])
    living.close()
    another.close()


def test_a_folder_that_is_a_link_of_somebody_is_not_used(tmp_path: Path) -> None:
    scratch = ScratchFolder(tmp_path)
    harness = scratch.path.parent
    scratch.close()
    harness.rmdir()
    (tmp_path / "elsewhere").mkdir()
    harness.symlink_to(tmp_path / "elsewhere")

    with pytest.raises(SettingsError, match="MMAUDIO_SCRATCH_DIR"):
        ScratchFolder(tmp_path)
