"""An engine without progress ends its process with a stack trace; each test uses a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[4]
PATIENCE_S = 120


def run(code: str) -> subprocess.CompletedProcess[str]:
    begin = f"import sys, time\nsys.path.insert(0, {str(ROOT)!r})\nfrom workers.engine.watchdog import Watchdog\n"
    return subprocess.run(
        [sys.executable, "-c", begin + code], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


@pytest.mark.parametrize(
    "hang", ["time.sleep(600)", "ctypes.PyDLL(None).sleep(600)"], ids=["waits", "holds the lock of Python"]
)
def test_an_engine_that_hangs_ends_the_process_and_says_where(hang: str) -> None:
    ended = run(f"import ctypes\ndef hanging_function():\n    {hang}\nWatchdog(0.2).progressed()\nhanging_function()\n")

    assert ended.returncode == 1
    assert "in hanging_function" in ended.stderr


def test_an_engine_that_progresses_or_is_idle_is_not_killed() -> None:
    ended = run(
        "watchdog = Watchdog(5.0)\nbegan = time.monotonic()\n"
        "while time.monotonic() - began < 6.0:\n    watchdog.progressed()\n    time.sleep(0.05)\n"
        "watchdog = Watchdog(0.1)\nwatchdog.progressed()\nwatchdog.idle()\ntime.sleep(0.5)\nprint('alive')\n"
    )

    assert (ended.returncode, ended.stdout) == (0, "alive\n"), ended.stderr


def test_a_watchdog_without_a_limit_never_fires() -> None:
    ended = run("watchdog = Watchdog(0)\nwatchdog.progressed()\ntime.sleep(0.3)\nwatchdog.idle()\nprint('alive')\n")

    assert ended.stdout == "alive\n", ended.stderr
