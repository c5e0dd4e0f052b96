"""An engine that stands still ends its process, with its stack; in processes of their own."""

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
    ended = run(f"import ctypes\ndef the_place():\n    {hang}\nWatchdog(0.2).progressed()\nthe_place()\n")

    assert ended.returncode == 1
    assert "in the_place" in ended.stderr


def test_an_engine_that_moves_or_rests_is_left_alone() -> None:
    ended = run(
        "dog = Watchdog(5.0)\nbegan = time.monotonic()\n"
        "while time.monotonic() - began < 6.0:\n    dog.progressed()\n    time.sleep(0.05)\n"
        "dog = Watchdog(0.1)\ndog.progressed()\ndog.idle()\ntime.sleep(0.5)\nprint('well')\n"
    )

    assert (ended.returncode, ended.stdout) == (0, "well\n"), ended.stderr


def test_a_watchdog_without_a_limit_never_bites() -> None:
    ended = run("dog = Watchdog(0)\ndog.progressed()\ntime.sleep(0.3)\ndog.idle()\nprint('well')\n")

    assert ended.stdout == "well\n", ended.stderr
