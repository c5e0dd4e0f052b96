"""The fork server and its children: how each starts and exits, and what that does to the others."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from local_services.commands import wait_until
from mmaudio_model.errors import MediaInvalidError
from tests.processes.workers.media.conftest import OpenSandbox
from tests.processes.workers.media.sandbox_processes import (
    PATIENCE_S,
    SIZES,
    SYNC_SHAPE,
    boot,
    media_pids,
    pids_left_in,
    runs,
)
from workers.media.sandbox import SandboxBrokenError


def test_each_file_has_a_process_of_its_own_and_none_stays(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing("return {'error': 'MediaInvalidError', 'message': f'{os.getpid()} {os.getppid()}'}")
    box, messages = sandbox(scratch, prestart=True), []
    for _ in range(3):
        with pytest.raises(MediaInvalidError) as refused:
            box.read_image(anything, owner="job_1", clip_size=32)
        messages.append(str(refused.value).split())
    children, parents = zip(*messages, strict=True)

    assert len(set(children)) == 3
    assert media_pids() == set(map(int, parents)), "one fork server, and nothing else"
    box.close()
    assert media_pids() == set()


def test_the_fork_server_has_one_thread_and_no_open_file_of_anybody(
    video: Path, scratch: Path, sandbox: OpenSandbox
) -> None:
    box = sandbox(scratch)
    box.read_frames(video, owner="job_1", **SIZES)
    (server,) = map(psutil.Process, media_pids())

    assert server.num_threads() == 1, "a fork of several would be half a process, and could not leave the network"
    # It closes what it held for the file after the answer has been given.
    wait_until(lambda: server.num_fds() == 4, within_s=60, what="nothing open but three streams and the socket")


def test_a_fork_server_that_was_killed_costs_no_job_anything(video: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    box = sandbox(scratch)
    for _ in range(2):
        assert box.read_frames(video, owner="job_1", **SIZES).sync.shape == SYNC_SHAPE
        for pid in media_pids():
            os.kill(pid, signal.SIGKILL)


def test_a_file_whose_process_is_lost_with_the_fork_server_is_not_to_blame(
    anything: Path, scratch: Path, doing: Callable[[str], None], sandbox: OpenSandbox
) -> None:
    doing("pathlib.Path(str(os.getpid())).touch()\ntime.sleep(600)")
    box = sandbox(scratch)
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(box.read_image, anything, owner="job_1", clip_size=32)
        wait_until(lambda: bool(pids_left_in(scratch)), within_s=PATIENCE_S, what="the process")
        (child,) = pids_left_in(scratch)
        os.kill(psutil.Process(child).ppid(), signal.SIGKILL)

        assert isinstance(reading.exception(timeout=PATIENCE_S), SandboxBrokenError)
    wait_until(lambda: not runs(child), within_s=PATIENCE_S, what="the end of its process")


def test_a_fork_server_that_has_served_long_is_replaced_and_what_it_forked_ends_well(
    anything: Path,
    tmp_path: Path,
    scratch: Path,
    doing: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    sandbox: OpenSandbox,
) -> None:
    monkeypatch.setattr("workers.media.sandbox_client.FORKS_PER_SERVER", 1)
    doing(
        "pathlib.Path(str(os.getpid())).touch()\n"
        f"while not os.path.exists({str(tmp_path / 'go on')!r}): time.sleep(0.01)\n"
        "return {'error': 'MediaInvalidError', 'message': str(os.getppid())}"
    )
    box = sandbox(scratch)
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(box.read_image, anything, owner=f"job_{number}", clip_size=32) for number in range(2)]
        try:
            wait_until(lambda: len(pids_left_in(scratch)) == 2, within_s=PATIENCE_S, what="both processes")
        finally:
            (tmp_path / "go on").touch()
        servers = {str(one.exception(timeout=PATIENCE_S)) for one in both}

    assert len(servers) == 2
    wait_until(lambda: len(media_pids()) <= 1, within_s=PATIENCE_S, what="the end of the first fork server")


def test_a_machine_on_which_no_process_begins_is_not_the_fault_of_the_file(
    anything: Path,
    scratch: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    sandbox: OpenSandbox,
) -> None:
    monkeypatch.setattr("workers.media.sandbox_client.BOOT", "raise SystemExit('numpy is not there')")

    with pytest.raises(SandboxBrokenError, match="3 tries"):
        sandbox(scratch).read_image(anything, owner="job_1", clip_size=32)
    assert "numpy is not there" in caplog.text
    assert list(scratch.iterdir()) == []


def test_files_are_read_side_by_side(video: Path, scratch: Path, sandbox: OpenSandbox) -> None:
    box = sandbox(scratch)
    with ThreadPoolExecutor(4) as pool:
        reads = pool.map(lambda number: box.read_frames(video, owner=f"job_{number}", **SIZES), range(6))
        assert [read.sync.shape for read in reads] == [SYNC_SHAPE] * 6


def test_no_process_outlives_its_worker(anything: Path, tmp_path: Path) -> None:
    root = Path(__file__).parents[4]
    scratch = tmp_path / "scratch"
    (tmp_path / "code").write_text(
        # A process that was taken over: it ignores all signals that it can, and clears its parent-death signal.
        "for one in (signal.SIGTERM, signal.SIGHUP): signal.signal(one, signal.SIG_IGN)\n"
        "import ctypes\nctypes.CDLL(None).prctl(1, 0, 0, 0, 0)\n"
        "pathlib.Path(str(os.getpid())).touch()\ntime.sleep(600)"
    )
    worker = (
        f"import pathlib, sys\nsys.path.insert(0, {str(root)!r})\nfrom workers.media import sandbox, sandbox_client\n"
        f"sandbox_client.BOOT = {boot(tmp_path / 'code')!r}\n"
        f"scratch = pathlib.Path({str(scratch)!r})\n"
        "box = sandbox.MediaSandbox(sandbox.MediaLimits(), sandbox.SandboxLimits(), scratch)\n"
        f"box.read_image(pathlib.Path({str(anything)!r}), owner='job_1', clip_size=32)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", worker])
    try:
        wait_until(lambda: bool(pids_left_in(scratch)), within_s=PATIENCE_S, what="the process")
        pids = media_pids(process.pid)
        assert len(pids) == 2
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    try:
        wait_until(lambda: not any(map(runs, pids)), within_s=PATIENCE_S, what="the end of both processes")
    finally:
        for pid in filter(runs, pids):
            os.kill(pid, signal.SIGKILL)
