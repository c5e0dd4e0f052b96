"""`mmaudio up` with a broker that the settings name and that does not answer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from local_services.ports import free_port


def test_a_broker_that_does_not_answer_is_named_in_one_line(tmp_path: Path) -> None:
    settings = {
        "MMAUDIO_BROKER_URL": f"redis://:secret@127.0.0.1:{free_port()}/0",
        "MMAUDIO_DATA_DIR": str(tmp_path / "data"),
        "MMAUDIO_API_BIND": f"127.0.0.1:{free_port()}",
    }
    command = [sys.executable, "-P", "-m", "mmaudio_client", "up"]
    done = subprocess.run(
        command, env=os.environ | settings, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    (error,) = [line for line in done.stderr.splitlines() if not line.startswith("mmaudio: starting on")]

    assert done.returncode == 1
    assert error.startswith("Error: MMAUDIO_BROKER_URL is 'redis://:***@127.0.0.1:")
    assert error.endswith("Connection refused); start that server, or unset the variable to use the embedded Valkey.")
    assert "secret" not in done.stderr
