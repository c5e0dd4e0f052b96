"""A device that hangs: its process is ended by the watchdog, and the job is made by the next one."""

from __future__ import annotations

import textwrap
from pathlib import Path

import psutil

from jobs.lifecycle import State
from local_services.commands import wait_until
from tests.integration.conftest import ON_SQLITE, PATIENCE_S, PlatformHarness

# Loaded by a worker process before anything else: the first batch of all hangs, as a kernel of a broken driver does.
HANG_ONCE = """
    import os, sys, time
    if "--process-for" in sys.orig_argv:
        from workers.engine.engine import Engine
        real = Engine._waveforms
        def hangs_once(engine, batch):
            try:
                os.remove(os.environ["HANG_ONCE"])
            except FileNotFoundError:
                return real(engine, batch)
            time.sleep(10**6)
        Engine._waveforms = hangs_once
"""
# Longer than this machine needs to load the model or for one step, however busy it is.
STALL_S = 15


@ON_SQLITE
def test_a_process_whose_engine_hangs_is_ended_with_its_stacks_told_and_its_job_succeeds_in_the_next(
    platform: PlatformHarness, tmp_path: Path
) -> None:
    (tmp_path / "first").mkdir()
    (tmp_path / "first" / "sitecustomize.py").write_text(textwrap.dedent(HANG_ONCE))
    (tmp_path / "hang").touch()
    platform.commands.environment = {
        **platform.commands.environment,
        "PYTHONPATH": str(tmp_path / "first"),
        "HANG_ONCE": str(tmp_path / "hang"),
        "MMAUDIO_ENGINE_WATCHDOG_S": str(STALL_S),
    }
    platform.commands.start("control")
    platform.commands.start("worker", "--devices", "cpu:0")
    (pid,) = platform.wait_for_workers(1)
    (job_id,) = platform.submit()
    wait_until(lambda: not psutil.pid_exists(pid), within_s=PATIENCE_S, what="the end of the process that hangs")
    platform.expire_leases([job_id])
    (job,) = platform.wait_for([job_id], within_s=PATIENCE_S)

    assert (job.state, platform.outcomes(job_id)) == (State.SUCCEEDED, ["lost", "succeeded"])
    # The ended process counts as a worker until its lease expires; the next one reports at its next heartbeat.
    wait_until(lambda: bool({*platform.wait_for_workers(1)} - {pid}), within_s=PATIENCE_S, what="the next process")
    # faulthandler's words: how long it waited, and where every thread was.
    log = (tmp_path / "logs" / "worker-1.log").read_text()
    assert "Timeout (0:00:15)!" in log
    assert "in hangs_once" in log
