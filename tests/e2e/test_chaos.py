"""The short form of `make chaos`: each fault once while jobs of three tenants run; then every job is checked."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from chaos.faults.catalog import FAULTS, Group
from chaos.plan import SHORT, SHORT_INFRASTRUCTURE

EMPTY = ("failed", "spent", "lost", "duplicated", "unexpected", "caller_errors")
CRASHES = {fault.name for fault in FAULTS if fault.group is Group.CRASHES}
# Faults that take seconds to start a worker of their own belong to the long form.
INFRASTRUCTURE = {fault.name for fault in FAULTS if fault.group is Group.INFRASTRUCTURE and not fault.starts_worker}
EMBEDDED = (CRASHES - {"restart_database"}) | {"byte_names", "fill_disk"}


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    ("parts", "faults", "drawn"),
    [
        pytest.param("production", CRASHES, SHORT.jobs, id="postgresql+s3, crashes"),
        # One attempt at each job: whatever is spent on a part that is away is a job that failed.
        pytest.param("production", INFRASTRUCTURE, SHORT_INFRASTRUCTURE.jobs, id="postgresql+s3, infrastructure"),
        pytest.param("embedded", EMBEDDED, SHORT.jobs, id="sqlite+folder"),
    ],
)
def test_every_accepted_job_finishes_once_despite_faults(
    parts: str, faults: set[str], drawn: int, tmp_path: Path
) -> None:
    options = [part for name in sorted(faults) for part in ("--only", name)]
    command = [sys.executable, "-m", "chaos", "--short", "--parts", parts, "--folder", str(tmp_path), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=840, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output
    check_result = json.loads((tmp_path / "check_result.json").read_text())
    assert {name: check_result[name] for name in EMPTY} == {name: [] for name in EMPTY}
    assert check_result["accepted"] == check_result["submitted"] >= drawn
    assert check_result["faults"].keys() | check_result["left_out"].keys() == faults, output
    assert set(check_result["faults"].values()) == {1}
    # Only root may mount the small file system; without it the run says that it was not filled.
    assert check_result["left_out"].keys() <= {"fill_disk"}
    # Without a recovered job no fault has hit anything, and the run shows nothing.
    assert check_result["recovered"] > 0, output
