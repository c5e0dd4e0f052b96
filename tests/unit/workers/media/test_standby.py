"""Media processes that wait for a file, and how they end."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.probe import MediaLimits
from tests.servers.commands import wait_until
from tests.unit.workers.media.processes import PATIENCE_S, WIDTH, boot, media_pids, pids_left_in, runs, sandbox
from workers.media.sandbox import MediaSandbox, SandboxBrokenError, SandboxLimits


def test_a_process_that_waits_is_taken_at_once_and_another_takes_its_place(anything: Path, scratch: Path) -> None:
    with standby(scratch, 2) as box:
        waiting = media_pids()
        for _ in range(3):
            with pytest.raises(MediaInvalidError, match="not a video"):
                box.probe(anything, owner="job_1")
        wait_until(lambda: len(media_pids()) == 2, within_s=PATIENCE_S, what="two waiting processes")
        # Each served one file: none of those that waited is there any more.
        assert not waiting & media_pids()
    assert media_pids() == set()


def test_a_waiting_process_that_was_killed_costs_no_job_anything(video: Path, scratch: Path) -> None:
    with standby(scratch, 2) as box:
        for pid in media_pids():
            os.kill(pid, signal.SIGKILL)
        assert box.probe(video, owner="job_1").width == WIDTH


def test_a_machine_on_which_no_process_begins_is_not_the_fault_of_the_file(
    anything: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("workers.media.standby.BOOT", "raise SystemExit('numpy is not there')")

    with pytest.raises(SandboxBrokenError, match="3 tries"):
        sandbox(scratch).probe(anything, owner="job_1")
    assert "numpy is not there" in caplog.text
    assert list(scratch.iterdir()) == []


def test_more_files_than_waiting_processes_are_read_side_by_side(video: Path, scratch: Path) -> None:
    with standby(scratch, 1) as box, ThreadPoolExecutor(4) as pool:
        widths = pool.map(lambda number: box.probe(video, owner=f"job_{number}").width, range(6))
        assert list(widths) == [WIDTH] * 6


def test_a_process_does_not_outlive_its_worker(anything: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[4]
    scratch = tmp_path / "scratch"
    worker = (
        f"import pathlib, sys\nsys.path.insert(0, {str(root)!r})\nfrom workers.media import sandbox, standby\n"
        f"standby.BOOT = {boot('pathlib.Path(str(os.getpid())).touch()' + chr(10) + 'time.sleep(600)')!r}\n"
        f"scratch = pathlib.Path({str(scratch)!r})\n"
        "box = sandbox.MediaSandbox(sandbox.MediaLimits(), sandbox.SandboxLimits(), scratch, standby=1)\n"
        f"box.probe(pathlib.Path({str(anything)!r}), owner='job_1')\n"
    )
    process = subprocess.Popen([sys.executable, "-c", worker])
    try:
        wait_until(lambda: bool(pids_left_in(scratch)), within_s=PATIENCE_S, what="the process")
        wait_until(lambda: len(media_pids(process.pid)) == 2, within_s=PATIENCE_S, what="one that waits")
        pids = media_pids(process.pid)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    try:
        wait_until(lambda: not any(map(runs, pids)), within_s=PATIENCE_S, what="the end of both processes")
    finally:
        for pid in filter(runs, pids):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def standby(scratch: Path, count: int) -> Iterator[MediaSandbox]:
    """A sandbox whose waiting processes are there."""
    box = MediaSandbox(MediaLimits(), SandboxLimits(), scratch, standby=count)
    try:
        wait_until(lambda: len(media_pids()) == count, within_s=PATIENCE_S, what="the waiting processes")
        yield box
    finally:
        box.close()
