"""Real commands, started with a umask that shares everything, make files for their own user only."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

from workers.host.supervisor import own_command

SCRIPT = "import os, sys; os.umask(0); os.execv(sys.argv[1], sys.argv[1:])"


def test_no_command_makes_files_for_others(tmp_path: Path) -> None:
    data = tmp_path / "data"
    environment = {**os.environ, "MMAUDIO_DATA_DIR": str(data), "MMAUDIO_BROKER_URL": "redis://127.0.0.1:1/0"}
    for arguments in (["migrate"], ["queue", "show"]):
        command = [sys.executable, "-c", SCRIPT, *own_command(*arguments)]
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode in {0, 1, 2}, done.stderr
    made = [data, *data.rglob("*")]

    assert data / "mmaudio.db" in made
    assert {str(path): oct(path.stat().st_mode) for path in made if stat.S_IMODE(path.stat().st_mode) & 0o077} == {}
