"""Faults of one host of several: wrong credentials, a wrong clock, a full disk.

While the fault lasts, `/v1/workers` must show the workers of that host as unavailable, with the reason; afterwards it
must show them as available again. The other host goes on.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from chaos.faults.target import Target

SHOWN_TIMEOUT_S = 60.0
START_TIMEOUT_S = 180.0
POLL_S = 0.5
# How often one more job is submitted, so that the worker meets its fault.
SUBMIT_S = 2.0
SKEW_S = 20 * 60
COMPILER = "cc"
UNKNOWN_KEY = "unknown"
STRANGER = "stranger"
"""Name of the process group that a fault starts and stops."""


def revoke_credentials(target: Target, rng: random.Random) -> str:
    """The store refuses the access key of one worker group for the outage time."""
    return _refuse_group(target, rng, rng.choice(["InvalidAccessKeyId", "SignatureDoesNotMatch", "AccessDenied"]))


def refuse_clock(target: Target, rng: random.Random) -> str:
    """The store answers one worker group as it answers a host whose clock is 20 min off."""
    return _refuse_group(target, rng, "RequestTimeTooSkewed")


def wrong_credentials(target: Target, rng: random.Random) -> str:
    """One more worker group starts with an access key that the store does not know, and stays for the outage time."""
    assert target.store is not None
    target.store.schedule.access.refused[UNKNOWN_KEY] = "InvalidAccessKeyId"
    environment = {"AWS_ACCESS_KEY_ID": UNKNOWN_KEY, "AWS_SECRET_ACCESS_KEY": UNKNOWN_KEY}
    return _stranger(target, environment, "an unknown key")


def skew_clock(target: Target, rng: random.Random) -> str:
    """One more worker group starts with a wall clock that is 20 min off, for the outage time."""
    skew_s = rng.choice([-SKEW_S, SKEW_S])
    with tempfile.TemporaryDirectory(prefix="mmaudio-chaos-clock-") as folder:
        library = Path(folder) / "skewed_clock.so"
        source = Path(__file__).with_name("skewed_clock.c")
        subprocess.run([COMPILER, "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
        environment = {"LD_PRELOAD": str(library), "SKEWED_CLOCK_S": str(skew_s)}
        return _stranger(target, environment, f"a clock {skew_s:+d} s off")


def fill_disk(target: Target, rng: random.Random) -> str:
    """The file system of the scratch folder (embedded parts: of all data) is full for the outage time, then freed."""
    assert target.disk is not None
    size = target.disk.fill()
    try:
        time.sleep(target.outage_s)
    finally:
        target.disk.free()
    return f"{target.disk.folder} full ({size / 1e6:.0f} MB) for {target.outage_s:g} s"


def has_compiler() -> bool:
    """Return whether the library that shifts a process's clock can be built."""
    return shutil.which(COMPILER) is not None


def _refuse_group(target: Target, rng: random.Random, code: str) -> str:
    """Refuse one worker group's key until its workers are shown as unavailable, and for the outage time."""
    assert target.store is not None
    group = rng.choice(target.processes.groups())
    _expect_available(target, group, "before its fault")  # an earlier fault may still be shown
    key = target.processes.environment_of(group)["AWS_ACCESS_KEY_ID"]
    access = target.store.schedule.access
    access.refused[key] = code
    try:
        with _lasting(target.outage_s):
            shown = _expect_unavailable(target, group, f"refused by the store with {code}", SHOWN_TIMEOUT_S)
    finally:
        del access.refused[key]
    _expect_available(target, group, "after its repair")
    return f"{code} for {group}, shown as {shown}, for {target.outage_s:g} s"


def _stranger(target: Target, environment: Mapping[str, str], what: str) -> str:
    arguments = ("worker", "--devices", "cpu:0")
    with target.processes.temporary(STRANGER, *arguments, environment=environment), _lasting(target.outage_s):
        shown = _expect_unavailable(target, STRANGER, f"started with {what}", START_TIMEOUT_S)
    return f"{what}, shown as {shown}, for {target.outage_s:g} s"


@contextlib.contextmanager
def _lasting(seconds: float) -> Iterator[None]:
    """Stay in the block for at least so long."""
    began = time.monotonic()
    yield
    time.sleep(max(0.0, began + seconds - time.monotonic()))


def _expect_unavailable(target: Target, group: str, why: str, timeout_s: float) -> str:
    """Wait until a worker of the group is shown as unavailable; return the code and message, or record a violation.

    Jobs are submitted meanwhile, so that an idle worker meets its fault.
    """
    found = _await(
        target, lambda: [row for row in _rows(target, group) if row.get("unavailable")], timeout_s, meet=True
    )
    if not found:
        target.report(f"/v1/workers did not show {group}, {why}, as unavailable within {timeout_s:g} s")
        return "available"
    reason = found[0]["unavailable"]
    return f"{reason.get('code')}: {reason.get('message')}"


def _expect_available(target: Target, group: str, when: str) -> None:
    def available() -> list[dict[str, Any]]:
        rows = _rows(target, group)
        return rows if rows and not any(row.get("unavailable") for row in rows) else []

    if not _await(target, available, SHOWN_TIMEOUT_S, meet=False):
        target.report(f"/v1/workers did not show {group} as available within {SHOWN_TIMEOUT_S:g} s {when}")


def _await(
    target: Target, look: Callable[[], list[dict[str, Any]]], timeout_s: float, *, meet: bool
) -> list[dict[str, Any]]:
    deadline, submit_at = time.monotonic() + timeout_s, time.monotonic()
    while not (found := look()) and time.monotonic() < deadline:
        if meet and time.monotonic() >= submit_at:
            target.caller.submit_one_more()
            submit_at = time.monotonic() + SUBMIT_S
        time.sleep(POLL_S)
    return found


def _rows(target: Target, group: str) -> list[dict[str, Any]]:
    pids = set(target.processes.worker_processes(group))
    return [row for row in target.workers() if row["pid"] in pids]
