"""The short form of `make chaos`: each fault once while jobs of three tenants run; then every job is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.run import SHORT

FAULTS = {
    "kill_worker",
    "freeze_worker",
    "kill_supervisor",
    "kill_api",
    "kill_control",
    "wipe_broker",
    "restart_broker",
    "freeze_broker",
}
PRODUCTION_FAULTS = {"restart_database", "break_store"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("parts", "faults"),
    [
        pytest.param("production", FAULTS | PRODUCTION_FAULTS, id="postgresql+s3"),
        pytest.param("embedded", FAULTS, id="sqlite+folder"),
    ],
)
def test_every_accepted_job_finishes_once_despite_faults(parts: str, faults: set[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "chaos", "--short", "--parts", parts, "--folder", str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=840, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    check_result = json.loads((tmp_path / "check_result.json").read_text())
    assert (check_result["lost"], check_result["duplicated"], check_result["unexpected"]) == ([], [], [])
    assert check_result["accepted"] == check_result["submitted"] == SHORT.jobs
    assert check_result["faults"] == dict.fromkeys(faults, 1), output
    # Without a recovered job no fault has hit anything, and the run shows nothing.
    assert check_result["recovered"] > 0, output
