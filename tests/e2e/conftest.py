"""The product as a person uses it: `mmaudio up` in a folder of its own, once for all tests that only use it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import expect

from local_services.commands import Commands, wait_until
from mmaudio_model.demo_video import render_demo_video

# Seconds. Nothing waits that long on a machine that is not overloaded; no test asserts how fast something was.
PATIENCE_S = 240.0
# Playwright's own 5 s are too few for a page with all operations of the API on a busy machine.
expect.set_options(timeout=PATIENCE_S * 1000)


@dataclass
class RunningPlatform:
    url: str
    data_dir: Path
    commands: Commands
    pid: int


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running_platform(
    folder: Path, current_folder: Path | None = None, *, with_keys: bool = False
) -> Iterator[RunningPlatform]:
    """Run `mmaudio up` until it is ready; end it afterwards.

    Args:
        with_keys: requests need an API key.
    """
    url = f"http://127.0.0.1:{free_port()}"
    environment = {
        "MMAUDIO_DATA_DIR": str(folder / "data"),
        "MMAUDIO_API_BIND": url.removeprefix("http://"),
        "MMAUDIO_DEVICES": "cpu",
        "MMAUDIO_CPU_THREADS": "1",
        # Nothing answers there: what talks to this machine must not use a proxy.
        "http_proxy": "http://127.0.0.1:9",
        "all_proxy": "http://127.0.0.1:9",
    }
    if with_keys:
        environment["MMAUDIO_REQUIRE_API_KEY"] = "true"
    (folder / "logs").mkdir()
    commands = Commands(environment, folder / "logs", current_folder)

    def ready() -> bool:
        return "mmaudio: ready: " in commands.output() if with_keys else is_ready(url)

    try:
        process = commands.start("up")
        wait_until(lambda: process.poll() is not None or ready(), within_s=PATIENCE_S, what="a ready platform")
        assert process.poll() is None, commands.output()
        yield RunningPlatform(url, folder / "data", commands, process.pid)
    finally:
        commands.stop_all()


def is_ready(url: str) -> bool:
    try:
        workers = httpx.get(f"{url}/v1/workers", timeout=5).json()["data"]
    except (httpx.HTTPError, ValueError, KeyError):
        return False
    return any(worker["state"] in {"idle", "busy"} for worker in workers)


@pytest.fixture(scope="session")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningPlatform]:
    with running_platform(tmp_path_factory.mktemp("platform")) as running:
        yield running


@pytest.fixture(scope="session")
def demo_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "ball.mp4"
    render_demo_video(path, seconds=3.0)
    return path
