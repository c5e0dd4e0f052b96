"""Records every request and its answer outside the platform; the checker reads it at the end."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

TENANTS = ("default", "workshop", "archive")
METADATA_KEY = "ledger"


class Kind(StrEnum):
    """The kind of a request, which decides the final states it allows."""

    PROMPT = "prompt"
    VIDEO = "video"
    BROKEN_VIDEO = "broken_video"
    CANCELED = "canceled"
    DELIVERED = "delivered"


@dataclass
class Entry:
    """One request.

    Attributes:
        job_id: the job it made; None while no answer named it.
        cancel_accepted: the cancel was answered by 2xx, so the job must end as canceled.
    """

    key: str
    tenant: str
    kind: Kind
    fields: dict[str, Any]
    cancel_after_s: float | None = None
    job_id: str | None = None
    tries: int = 0
    cancel_accepted: bool = False

    def allows(self, state: str, error_code: str | None) -> bool:
        """Say whether the request may end so. No fault of a part may fail a valid request."""
        if self.kind is Kind.BROKEN_VIDEO:
            return (state, error_code) == ("failed", "media_invalid")
        if self.kind is Kind.CANCELED:
            return state == "canceled" or (state == "succeeded" and not self.cancel_accepted)
        return state == "succeeded"


@dataclass
class Ledger:
    """All entries of a run; each is written by one thread.

    Attributes:
        caller_errors: what callers could not do, although they retried.
    """

    entries: list[Entry]
    caller_errors: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_caller_error(self, message: str) -> None:
        """Record an error that a caller has seen; thread-safe."""
        with self._lock:
            self.caller_errors.append(message)

    @property
    def accepted(self) -> list[Entry]:
        """The requests that the platform has accepted."""
        return [entry for entry in self.entries if entry.job_id is not None]


def draw_ledger(jobs: int, seed: int, *, delivery: str | None) -> Ledger:
    """Draw the requests of a run from a seed.

    Args:
        delivery: `deliver_to` of some requests (`s3://bucket/prefix/`); None: of none.
    """
    rng = random.Random(f"requests {seed}")
    kinds = [Kind.PROMPT, Kind.VIDEO, Kind.BROKEN_VIDEO, Kind.CANCELED, Kind.DELIVERED]
    weights = [60, 15, 5, 10, 10 if delivery else 0]
    return Ledger([_entry(n, rng, rng.choices(kinds, weights)[0], delivery) for n in range(jobs)])


def _entry(number: int, rng: random.Random, kind: Kind, delivery: str | None) -> Entry:
    fields: dict[str, Any] = {
        "prompt": rng.choice(["rain", "steps on gravel", "a door", "wind in leaves"]),
        "seed": rng.randrange(2**31),
        "num_steps": rng.randint(2, 25),
        "priority": rng.choice(["low", "normal", "normal", "high"]),
        "audio_format": rng.choice(["flac", "wav"]),
    }
    if kind in {Kind.VIDEO, Kind.BROKEN_VIDEO}:
        tenant = TENANTS[0]  # uploads belong to a tenant, and go over HTTP
    else:
        tenant = rng.choice(TENANTS)
        fields["duration_s"] = round(rng.uniform(0.64, 4.0), 2)
        fields["num_samples"] = rng.choice([1, 1, 1, 2])
    if kind is Kind.DELIVERED:
        fields["deliver_to"] = delivery
    key = f"r{number:04d}"
    fields["metadata"] = {METADATA_KEY: key}
    return Entry(key, tenant, kind, fields, rng.uniform(0.0, 4.0) if kind is Kind.CANCELED else None)
