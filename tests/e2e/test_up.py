"""`mmaudio up`: starts all, refuses a second one, mends a crash, stops all."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from local_services.commands import children_of, wait_until
from tests.e2e.conftest import PATIENCE_S, RunningPlatform, is_ready, running_platform


@pytest.fixture
def own_platform(tmp_path: Path) -> Iterator[RunningPlatform]:
    """A platform that the test may end."""
    with running_platform(tmp_path) as running:
        yield running


@pytest.fixture(scope="module")
def hardy_platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    """A platform whose parts the tests may end: it starts them again."""
    with running_platform(tmp_path_factory.mktemp("hardy")) as running:
        yield running


def test_a_second_up_on_the_same_folder_is_refused_and_the_first_goes_on(platform: RunningPlatform) -> None:
    second = platform.commands.start("up")
    assert second.wait(PATIENCE_S) == 1
    assert "already runs on" in platform.commands.output()
    assert str(platform.pid) in platform.commands.output()
    assert is_ready(platform.url)


def test_ctrl_c_stops_all_and_leaves_nothing_running(own_platform: RunningPlatform) -> None:
    children = children_of(own_platform.pid)
    assert len(children) >= 5  # valkey, api and its server process, control, worker and its device's process
    os.kill(own_platform.pid, signal.SIGINT)
    assert own_platform.commands.started[0].wait(PATIENCE_S) == 0
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert alive == []
    assert not (own_platform.data_dir / "broker.url").exists()
    with pytest.raises(httpx.ConnectError):
        httpx.get(own_platform.url)


@pytest.mark.parametrize(
    "part", ["valkey-server", "mmaudio_client api", "mmaudio_client control", "mmaudio_client worker"]
)
def test_a_crash_of_a_part_is_seen_said_and_mended(hardy_platform: RunningPlatform, part: str) -> None:
    def restarts() -> int:
        return hardy_platform.commands.output().count("starting it again")

    said_before = restarts()
    victim = next(child for child in psutil.Process(hardy_platform.pid).children() if part in " ".join(child.cmdline()))
    victim.kill()
    wait_until(lambda: restarts() > said_before, within_s=PATIENCE_S, what="a word about it")

    def works_again() -> bool:
        done = submit_words(hardy_platform)
        return done.returncode == 0

    wait_until(lambda: is_ready(hardy_platform.url), within_s=PATIENCE_S, what="a ready platform")
    wait_until(works_again, within_s=PATIENCE_S, what="a job that succeeds")


def submit_words(platform: RunningPlatform) -> subprocess.CompletedProcess[str]:
    process = platform.commands.start(
        "submit", "--prompt", "x", "--duration", "0.64", "--num-steps", "2", "--api-url", platform.url,
        "--output", str(platform.data_dir / "out"),
    )  # fmt: skip
    return subprocess.CompletedProcess([], process.wait(PATIENCE_S))


def test_killing_up_itself_takes_its_children_along(own_platform: RunningPlatform) -> None:
    children = children_of(own_platform.pid)
    os.kill(own_platform.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=PATIENCE_S)
    assert [child.cmdline() for child in alive] == []
    # and the folder is free again
    again = own_platform.commands.start("up")
    wait_until(
        lambda: again.poll() is not None or is_ready(own_platform.url), within_s=PATIENCE_S, what="a ready platform"
    )
    assert again.poll() is None, own_platform.commands.output()
