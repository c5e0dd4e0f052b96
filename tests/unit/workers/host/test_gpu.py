"""What is asked of the NVIDIA driver, against a stand-in for its library; no test machine has a GPU."""

from __future__ import annotations

import sys
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from local_services.commands import wait_until
from workers.host.gpu import FRESH_S, GpuSampler, cuda_uuids, gpu_figures

UUIDS = ["GPU-aaaa", "GPU-bbbb"]


class NVMLError(Exception):
    pass


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two GPUs; the second one tells its memory only, as a MIG slice does. Gives what was called."""
    calls: list[str] = []

    def handle_of(uuid: str) -> int:
        if uuid not in UUIDS:
            raise NVMLError("not found")
        return UUIDS.index(uuid)

    def on_first_only(value: Any) -> Any:
        def ask(handle: int, *_: object) -> Any:
            if handle:
                raise NVMLError("not supported")
            return value

        return ask

    driver = SimpleNamespace(
        NVMLError=NVMLError,
        NVML_TEMPERATURE_GPU=0,
        nvmlInit=lambda: calls.append("init"),
        nvmlShutdown=lambda: calls.append("shutdown"),
        nvmlDeviceGetCount=lambda: len(UUIDS),
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetHandleByUUID=handle_of,
        nvmlDeviceGetUUID=UUIDS.__getitem__,
        nvmlDeviceGetMemoryInfo=lambda handle: SimpleNamespace(used=3, total=10),
        nvmlDeviceGetUtilizationRates=on_first_only(SimpleNamespace(gpu=25, memory=1)),
        nvmlDeviceGetTemperature=on_first_only(61),
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    return calls


def test_gpus_are_asked_of_the_driver_which_is_let_go_again(calls: list[str]) -> None:
    assert cuda_uuids() == UUIDS
    assert calls == ["init", "shutdown"]


def test_a_gpu_tells_its_memory_its_work_and_its_temperature(calls: list[str]) -> None:
    assert gpu_figures("GPU-aaaa") == {
        "memory_used_bytes": 3,
        "memory_total_bytes": 10,
        "utilization": 0.25,
        "temperature_c": 61,
    }
    assert calls == ["init", "shutdown"]


def test_what_a_gpu_does_not_tell_is_left_open(calls: list[str]) -> None:
    figures = gpu_figures("GPU-bbbb")

    assert figures == {"memory_used_bytes": 3, "memory_total_bytes": 10, "utilization": None, "temperature_c": None}


def test_a_gpu_that_has_fallen_off_the_bus_has_no_figures(calls: list[str]) -> None:
    assert gpu_figures("GPU-cccc") is None
    assert calls == ["init", "shutdown"]


def test_a_machine_without_a_driver_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise NVMLError("the driver is not there")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(NVMLError=NVMLError, nvmlInit=refuse))

    assert cuda_uuids() == []
    assert gpu_figures("GPU-aaaa") is None


def test_a_driver_that_hangs_leaves_no_figures_and_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    answers, seconds = threading.Event(), 0.0
    asked = []

    def figures(uuid: str) -> dict[str, Any]:
        asked.append(uuid)
        if len(asked) > 1:
            answers.wait(60)
        return {"temperature_c": 61}

    monkeypatch.setattr("workers.host.gpu.gpu_figures", figures)
    monkeypatch.setattr("workers.host.gpu.SAMPLE_S", 0.01)
    sampler = GpuSampler("GPU-aaaa", monotonic=lambda: seconds)
    wait_until(lambda: len(asked) == 2, within_s=20, what="the question that is not answered")
    assert sampler.latest() == {"temperature_c": 61}
    seconds = FRESH_S + 1
    assert sampler.latest() is None
    sampler.close()
    answers.set()


def test_a_worker_without_a_gpu_has_no_figures() -> None:
    assert GpuSampler(None).latest() is None
