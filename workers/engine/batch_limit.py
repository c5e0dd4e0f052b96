"""How many requests may share a batch: found from the device's memory, lowered when it ran out after all.

A request's need grows with its length, so all is counted in latent tokens. No torch but for what a CUDA device says.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Protocol

import torch

log = logging.getLogger(__name__)

# Of what is free, this much is planned with: allocators lose some of it between blocks.
PLANNED_SHARE = 0.8
# After so many batches in a row that filled a lowered limit and ran, it is tried a little higher: what took the memory
# away (another program on the device, say) may be gone.
TRUSTED_AFTER = 50


class DeviceMemory(Protocol):
    """What a limit must know of a device; None: there is nothing to know, and only `max_batch` bounds a batch."""

    def free_bytes(self) -> int | None:
        """Return what may still be allocated."""
        ...

    def watch(self) -> None:
        """Begin to note the highest use."""
        ...

    def highest_bytes(self) -> int | None:
        """Return the highest use since `watch`, above what was in use then."""
        ...


class UnknownMemory:
    """A CPU: its memory is swapped and shared, so the setting alone bounds a batch."""

    def free_bytes(self) -> int | None:
        return None

    def watch(self) -> None:
        pass

    def highest_bytes(self) -> int | None:
        return None


class CudaMemory:
    """The one CUDA device of this process. Used on the device's thread only."""

    def __init__(self) -> None:
        self._before = 0

    def free_bytes(self) -> int | None:
        free, _ = torch.cuda.mem_get_info()
        # What the allocator has reserved and does not use is free to us as well.
        return int(free) + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()

    def watch(self) -> None:
        torch.cuda.reset_peak_memory_stats()
        self._before = torch.cuda.memory_allocated()

    def highest_bytes(self) -> int | None:
        return max(0, torch.cuda.max_memory_allocated() - self._before)


@dataclass
class _Variant:
    bytes_per_token: float = 0.0
    lowered_tokens: int | None = None
    trusted: int = 0


@dataclass
class BatchLimit:
    """The limit of one device. `max_batch` is never passed; a batch of one is always allowed."""

    max_batch: int
    memory: DeviceMemory = field(default_factory=UnknownMemory)
    _variants: dict[str, _Variant] = field(default_factory=dict)

    def requests(self, variant: str, tokens: int) -> int:
        """Return how many requests of `tokens` latent tokens each may share the next batch."""
        known = self._variants.setdefault(variant, _Variant())
        limit = self.max_batch
        free = self.memory.free_bytes()
        if free is not None:
            # Before anything was measured, one request goes alone and is measured.
            limit = int(free * PLANNED_SHARE / (known.bytes_per_token * tokens)) if known.bytes_per_token else 1
        if known.lowered_tokens is not None:
            limit = min(limit, known.lowered_tokens // tokens)
        return max(1, min(limit, self.max_batch))

    def begin(self) -> None:
        """A batch begins to run."""
        self.memory.watch()

    def fitted(self, variant: str, requests: int, tokens: int) -> None:
        """A batch ran: learn from what it used, and trust a lowered limit a little more."""
        known = self._variants.setdefault(variant, _Variant())
        used = self.memory.highest_bytes()
        if used:
            known.bytes_per_token = max(known.bytes_per_token, used / (requests * tokens))
        if known.lowered_tokens is None or (requests + 1) * tokens <= known.lowered_tokens:
            return
        known.trusted += 1
        if known.trusted >= TRUSTED_AFTER:
            known.trusted, known.lowered_tokens = 0, known.lowered_tokens + tokens
            log.info("the batch limit of %s is tried at %d requests again", variant, known.lowered_tokens // tokens)

    def ran_out(self, variant: str, requests: int, tokens: int) -> None:
        """A batch did not fit: batches half its size are the limit from now on."""
        known = self._variants.setdefault(variant, _Variant())
        tokens_now = max(1, requests // 2) * tokens
        if known.lowered_tokens is None or tokens_now < known.lowered_tokens:
            known.lowered_tokens, known.trusted = tokens_now, 0
            log.warning(
                "%d requests of %s did not fit into the device's memory; the batch limit is now %d of that length",
                requests,
                variant,
                tokens_now // tokens,
            )
