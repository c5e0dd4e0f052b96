"""How many requests may share a batch: computed from free device memory, and lowered when a batch ran out of it.

The memory of a request grows with its length, so the limit counts latent tokens.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

from workers.engine.device_memory import DeviceMemory, UnknownMemory

log = logging.getLogger(__name__)

# Share of the free memory that a batch may use: allocators lose some of it to fragmentation.
USABLE_SHARE = 0.8
# After this many batches in a row that filled a lowered limit and fitted, the limit is raised a little: what had taken
# the memory (another program on the device, say) may be gone.
RAISE_AFTER = 50


@dataclass
class _Variant:
    bytes_per_token: float = 0.0
    lowered_tokens: int | None = None
    fitted_in_a_row: int = 0


@dataclass
class BatchLimit:
    """The limit of one device. `max_batch` is never exceeded; a batch of one is always allowed."""

    max_batch: int
    memory: DeviceMemory = field(default_factory=UnknownMemory)
    _variants: dict[str, _Variant] = field(default_factory=dict)

    def requests(self, variant: str, tokens: int) -> int:
        """Return how many requests of `tokens` latent tokens each may share the next batch."""
        known = self._variants.setdefault(variant, _Variant())
        limit = self.max_batch
        free = self.memory.free_bytes()
        if free is not None:
            # Without a measurement, one request runs alone and is measured.
            limit = int(free * USABLE_SHARE / (known.bytes_per_token * tokens)) if known.bytes_per_token else 1
        if known.lowered_tokens is not None:
            limit = min(limit, known.lowered_tokens // tokens)
        return max(1, min(limit, self.max_batch))

    def begin(self) -> None:
        """Record that a batch starts."""
        self.memory.reset_peak()

    def fitted(self, variant: str, requests: int, tokens: int) -> None:
        """Record that a batch ran: measure its memory, and raise a lowered limit after `RAISE_AFTER` batches."""
        known = self._variants.setdefault(variant, _Variant())
        used = self.memory.peak_bytes()
        if used:
            known.bytes_per_token = max(known.bytes_per_token, used / (requests * tokens))
        if known.lowered_tokens is None or (requests + 1) * tokens <= known.lowered_tokens:
            return
        known.fitted_in_a_row += 1
        if known.fitted_in_a_row >= RAISE_AFTER:
            known.fitted_in_a_row, known.lowered_tokens = 0, known.lowered_tokens + tokens
            log.info("raising the batch limit of %s to %d requests", variant, known.lowered_tokens // tokens)

    def ran_out(self, variant: str, requests: int, tokens: int) -> None:
        """Record that a batch ran out of memory: lower the limit to half its size."""
        known = self._variants.setdefault(variant, _Variant())
        tokens_now = max(1, requests // 2) * tokens
        if known.lowered_tokens is None or tokens_now < known.lowered_tokens:
            known.lowered_tokens, known.fitted_in_a_row = tokens_now, 0
            log.warning(
                "%d requests of %s exceeded the device's memory; the batch limit is now %d requests of that length",
                requests,
                variant,
                tokens_now // tokens,
            )
