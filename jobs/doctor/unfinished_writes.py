"""Finds writes to the object store that never finished."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.doctor.finding import Finding, Kind
from jobs.storage.protocol import ObjectStore

UNFINISHED_AFTER_S = 24 * 3600.0


def find_unfinished_writes(store: ObjectStore) -> Iterator[Finding]:
    """Yield writes that began more than a day ago and never finished."""
    for write in store.unfinished_writes(older_than_s=UNFINISHED_AFTER_S):
        yield Finding(Kind.WRITE_UNFINISHED, write.name, f"begun {write.begun_at:%Y-%m-%d %H:%M}", write.discard)
