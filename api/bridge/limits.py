"""The limits of the bridge between slow clients and request threads."""

from __future__ import annotations

from dataclasses import dataclass

from api.shares import ThreadShares
from jobs.settings import MIB, Settings


@dataclass(frozen=True)
class BridgeLimits:
    """How long and how much clients may send and wait.

    Attributes:
        threads: request threads.
        queued: requests that may wait for a thread; beyond it they are refused.
        body_bytes: largest body that is read before the app is called, unless the bridge's `body_limit` allows more.
        body_s: seconds in which such a body must have arrived.
        large_bytes_per_s: what a body has beyond `body_bytes` may arrive at this rate.
        buffered_bytes: bytes of all such bodies together; beyond it requests are refused.
        large_buffered_bytes: the same for what they have beyond `body_bytes`, so that large bodies take no memory from
            small ones. The app needs several times as much while it reads them.
        stall_s: longest time between two pieces of an upload, and between two that a client takes of an answer.
        upload_bytes_per_s: slowest upload, on average since its first `stall_s` seconds.
        prompt_s: a body that has not arrived after this time is waited for only if the app wants to read it.
        held: requests that wait for jobs or stream events at once, without a thread.
        drain_bytes, drain_s: how much of an unread body is read and dropped, so that the connection can be kept.
    """

    threads: int = 32
    queued: int = 512
    body_bytes: int = MIB
    body_s: float = 10.0
    large_bytes_per_s: int = 256 * 1024
    buffered_bytes: int = 128 * MIB
    large_buffered_bytes: int = 96 * MIB
    stall_s: float = 10.0
    upload_bytes_per_s: int = 4096
    prompt_s: float = 0.2
    drain_bytes: int = MIB
    drain_s: float = 0.5
    held: int = 6000

    @classmethod
    def from_settings(cls, settings: Settings) -> BridgeLimits:
        """Return the limits that the settings name."""
        return cls(
            threads=ThreadShares.of(settings.api_threads).threads_needed(settings.api_threads),
            held=settings.api_waiting,
            queued=settings.api_threads * 16,
            body_s=settings.api_body_timeout_s,
            stall_s=settings.api_stall_s,
            upload_bytes_per_s=settings.upload_min_bytes_per_s,
        )
