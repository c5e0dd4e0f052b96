"""A worker's temporary files end with it, however it ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from workers.host.scratch import ScratchFolder

ROOT = Path(__file__).parents[4]


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
    code = (
        f"import os, pathlib, signal, sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from workers.host.scratch import ScratchFolder\n"
        f"folder = ScratchFolder(pathlib.Path({str(tmp_path)!r})).path\n"
        "(folder / 'input').write_bytes(b'1')\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    living = ScratchFolder(tmp_path)
    subprocess.run([sys.executable, "-c", code], check=False, timeout=60)
    assert len(left(tmp_path)) == 2
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

    with pytest.raises(PermissionError, match="MMAUDIO_SCRATCH_DIR"):
        ScratchFolder(tmp_path)
