"""The composition root closes what it has opened, in reverse, whichever part fails to open or start."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

import workers.worker_process as module
from jobs.settings import Settings
from workers.worker_process import WorkerProcess

OPENED = ["ScratchFolder", "Database", "Broker", "GpuSampler", "make_sandbox", "make_feature_cache"]
STARTED = ["Reporter", "HeapTrimmer", "Engine", "QueueSubscription", "Drain"]


class PartError(Exception):
    """Raised by the part that a test has chosen to fail."""


class Parts:
    """Fakes in place of the parts: each records when it is opened, started and closed, and fails when chosen to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
        self.calls: list[str] = []
        self.failing: str | None = None
        self.folder = folder
        for name in [*OPENED, *STARTED]:
            monkeypatch.setattr(module, name, self.part(name))
        for name in ("open_store", "make_model_cache", "revisions", "JobExecutor", "make_app", "StallDetector"):
            monkeypatch.setattr(module, name, self.function(name))
        monkeypatch.setattr(module, "make_celery_worker", lambda *_, **__: self.part("consumer")())
        monkeypatch.setattr(module, "register_worker", self.function("register_worker"))

    def called(self, call: str) -> None:
        self.calls.append(call)
        if call == self.failing:
            raise PartError(call)

    def function(self, name: str) -> Any:
        def function(*_: Any, **__: Any) -> Any:
            self.called(name)
            return self.part(name, silent=True)()

        return function

    def part(parts, name: str, *, silent: bool = False) -> Any:
        class Part:
            path, exitcode, consumed = parts.folder, 0, frozenset[str]()
            latest = report = request = load_s = missing_layers = register = fill_slots = on_message = (
                message_received
            ) = lambda self, *_, **__: None

            def __init__(self, *_: Any, **__: Any) -> None:
                if not silent:
                    parts.called(f"open {name}")

            def start(self) -> None:
                parts.called(f"start {name}")

            def close(self) -> None:
                parts.called(f"close {name}")

            def run(self, step: Any, **_: Any) -> None:
                step(None)

            def of_platform(self) -> Any:
                return self

            def preload(self, variant: str) -> None:
                parts.called(f"preload {variant}")

            def state(self) -> str:
                return "ready"

            def wait(self, seconds: float) -> bool:
                return True

            restart = False

        return Part

    def closed(self) -> list[str]:
        return [call.removeprefix("close ") for call in self.calls if call.startswith("close ")]

    def opened(self) -> list[str]:
        return [call.removeprefix("open ") for call in self.calls if call.startswith("open ")]


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Parts:
    monkeypatch.setattr(WorkerProcess, "_mark_stopped", lambda self: parts.called("close register_worker"))
    parts = Parts(monkeypatch, tmp_path)
    return parts


def process(tmp_path: Path) -> WorkerProcess:
    settings = Settings(data_dir=tmp_path, broker_url="redis://127.0.0.1:1/0", variants=["tiny_16k"])
    return WorkerProcess(settings, device="cpu:0", torch_device="cpu")


@pytest.mark.parametrize("place", range(len(OPENED)))
def test_a_part_that_does_not_open_closes_the_earlier_ones_in_reverse(parts: Parts, tmp_path: Path, place: int) -> None:
    parts.failing = f"open {OPENED[place]}"
    with pytest.raises(PartError, match=OPENED[place]):
        process(tmp_path)

    assert parts.closed() == OPENED[:place][::-1]


def test_a_store_that_does_not_open_closes_the_earlier_parts(parts: Parts, tmp_path: Path) -> None:
    parts.failing = "open_store"
    with pytest.raises(PartError, match="open_store"):
        process(tmp_path)

    assert parts.closed() == OPENED[:-1][::-1]


@pytest.mark.parametrize("place", range(len(STARTED)))
def test_a_part_that_does_not_start_closes_the_earlier_ones_in_reverse(
    parts: Parts, tmp_path: Path, place: int
) -> None:
    parts.failing = f"start {STARTED[place]}"
    with pytest.raises(PartError, match=STARTED[place]):
        process(tmp_path).run()

    assert parts.closed() == [*STARTED[:place][::-1], "register_worker", *OPENED[::-1]]


def test_a_worker_that_cannot_be_registered_closes_what_is_open(parts: Parts, tmp_path: Path) -> None:
    parts.failing = "register_worker"
    with pytest.raises(PartError, match="register_worker"):
        process(tmp_path).run()

    assert parts.closed() == OPENED[::-1]


def test_after_its_consumer_has_ended_a_worker_closes_everything(parts: Parts, tmp_path: Path) -> None:
    assert process(tmp_path).run() == 0

    assert parts.closed() == [*STARTED[::-1], "register_worker", *OPENED[::-1]]
    assert parts.calls.index("start Reporter") < parts.calls.index("start Engine") < parts.calls.index("start consumer")


def test_the_id_tells_nothing_of_the_host_because_owners_of_jobs_see_it(parts: Parts, tmp_path: Path) -> None:
    ids = [process(tmp_path).worker_id for _ in range(2)]
    assert all(re.fullmatch(r"worker-[0-9a-f]{12}", one) for one in ids)
    assert ids[0] != ids[1]
