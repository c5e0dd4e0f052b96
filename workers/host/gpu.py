"""Reads GPU metrics from the NVIDIA driver (NVML). Does not initialise CUDA, so any process may."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

SAMPLE_S = 5.0
# Older samples are discarded: a driver that stopped answering hangs with its GPU.
FRESH_S = 30.0


@contextlib.contextmanager
def _driver() -> Iterator[ModuleType | None]:
    """Yield NVML, initialised; None without a driver."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        yield None
        return
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def cuda_uuids() -> list[str]:
    """Return the UUIDs of the GPUs in PCI bus order; empty without a driver."""
    with _driver() as nvml:
        if nvml is None:
            return []
        handles = [nvml.nvmlDeviceGetHandleByIndex(index) for index in range(nvml.nvmlDeviceGetCount())]
        return [str(nvml.nvmlDeviceGetUUID(handle)) for handle in handles]


def gpu_figures(uuid: str) -> dict[str, Any] | None:
    """Return memory, utilization and temperature of one GPU; None when the driver does not list it.

    A metric that this GPU does not report (a MIG instance has no utilization) is None.
    """
    with _driver() as nvml:
        if nvml is None:
            return None

        def ask(question: Callable[[], Any]) -> Any:
            try:
                return question()
            except nvml.NVMLError:
                return None

        handle = ask(lambda: nvml.nvmlDeviceGetHandleByUUID(uuid))
        if handle is None:
            return None
        memory = ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        rates = ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle))
        return {
            "memory_used_bytes": None if memory is None else int(memory.used),
            "memory_total_bytes": None if memory is None else int(memory.total),
            "utilization": None if rates is None else rates.gpu / 100,
            "temperature_c": ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        }


class GpuSampler:
    """Samples the metrics of one GPU in a thread of its own, because a heartbeat must not wait for a driver.

    Args:
        uuid: the GPU; None samples nothing.
    """

    def __init__(self, uuid: str | None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._uuid, self._monotonic = uuid, monotonic
        self._figures: dict[str, Any] | None = None
        self._sampled_at = float("-inf")
        self._closed = threading.Event()
        if uuid is not None:
            threading.Thread(target=self._run, args=(uuid,), name="gpu", daemon=True).start()

    def latest(self) -> dict[str, Any] | None:
        """Return the newest sample, or None when it is older than FRESH_S. Never blocks."""
        return self._figures if self._monotonic() - self._sampled_at <= FRESH_S else None

    def close(self) -> None:
        """Ask the thread to exit, without waiting for it."""
        self._closed.set()

    def _run(self, uuid: str) -> None:
        while not self._closed.is_set():
            self._figures = gpu_figures(uuid)
            self._sampled_at = self._monotonic()
            self._closed.wait(SAMPLE_S)
