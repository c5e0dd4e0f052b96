"""Measures the memory of a device."""

from __future__ import annotations

from typing import Protocol

import torch


class DeviceMemory(Protocol):
    """What a batch limit measures of a device; None: nothing is measured, and only `max_batch` bounds a batch."""

    def free_bytes(self) -> int | None:
        """Return how many bytes can still be allocated."""
        ...

    def reset_peak(self) -> None:
        """Start to measure the peak."""
        ...

    def peak_bytes(self) -> int | None:
        """Return the peak since `reset_peak`, above what was in use then."""
        ...


class UnknownMemory:
    """Memory of a CPU: it is swapped and shared, so the setting alone bounds a batch."""

    def free_bytes(self) -> int | None:
        return None

    def reset_peak(self) -> None:
        pass

    def peak_bytes(self) -> int | None:
        return None


class CudaMemory:
    """Memory of the only CUDA device of this process. Used on the engine's thread only."""

    def __init__(self) -> None:
        self._before = 0

    def free_bytes(self) -> int | None:
        free, _ = torch.cuda.mem_get_info()
        # What the allocator has reserved and does not use is free as well.
        return int(free) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()

    def reset_peak(self) -> None:
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def peak_bytes(self) -> int | None:
        return max(0, torch.cuda.max_memory_allocated() - self._before)
