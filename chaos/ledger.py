"""Records every request and its answer outside the platform; the checker reads it at the end."""

from __future__ import annotations

import random
import threading
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

TENANTS = ("default", "workshop", "archive")
METADATA_KEY = "ledger"
INBOX = "inbox"
"""The metadata's value of jobs made from the inbox, which all have one request."""
CLIENT_SHARE = 0.4


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
        by_client: submitted and awaited with the Python client, whose calls must outlive a restart of the API.
        from_inbox: a file put into the inbox; its name is the key. Nothing answers, so dropped means accepted.
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
    by_client: bool = False
    from_inbox: bool = False

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
        odd_files: how many files were dropped into the inbox that may become a job or be refused.
        caller_errors: what callers could not do, although they retried.
    """

    entries: list[Entry]
    odd_files: int = 0
    caller_errors: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def add_caller_error(self, message: str) -> None:
        """Record an error that a caller has seen; thread-safe."""
        with self._lock:
            self.caller_errors.append(message)

    def add(self, *entries: Entry, odd_files: int = 0) -> None:
        """Add entries to those drawn at the start; thread-safe."""
        with self._lock:
            self.entries += entries
            self.odd_files += odd_files

    @property
    def accepted(self) -> list[Entry]:
        """The requests that the platform has accepted."""
        return [entry for entry in self.entries if entry.job_id is not None or entry.from_inbox]


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
    by_client = kind is Kind.PROMPT and tenant == TENANTS[0] and rng.random() < CLIENT_SHARE
    cancel_after_s = rng.uniform(0.0, 4.0) if kind is Kind.CANCELED else None
    return Entry(key, tenant, kind, fields, cancel_after_s, by_client=by_client)


def small_entry(key: str) -> Entry:
    """Return a request that takes little time."""
    fields = {"prompt": "rain", "seed": 1, "num_steps": 2, "duration_s": 0.64, "metadata": {METADATA_KEY: key}}
    return Entry(key, TENANTS[0], Kind.PROMPT, fields)


def inbox_entry(name: str, kind: Kind) -> Entry:
    """Return the request that a file put into the inbox is."""
    return Entry(name, TENANTS[0], kind, {}, from_inbox=True)
