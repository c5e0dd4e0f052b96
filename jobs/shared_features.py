"""Where kept features lie in the object store, and when they go: two periods, the current one and the one before.

What is used is copied into the current period, so it stays; the rest is gone after one to two periods. Nobody has to
know when an object was last read, and what has expired comes first in a list of keys.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobs.storage.protocol import ObjectStore

PREFIX = "features/"
BATCH = 500


def period_of(now_s: float, ttl_s: int) -> int:
    return int(now_s // ttl_s)


def feature_key(period: int, key: str) -> str:
    """Return the object's key; periods sort by name."""
    return f"{PREFIX}{period:08d}/{key}"


def expire_features(store: ObjectStore, *, now_s: float, ttl_s: int) -> int:
    """Delete what no worker looks for any more; return how much that was.

    Raises:
        StorageError: the store did not do it; what is left goes the next time.
    """
    alive, deleted = f"{PREFIX}{period_of(now_s, ttl_s) - 1:08d}/", 0
    while expired := list(_before(store, alive)):
        store.delete(expired)
        deleted += len(expired)
    return deleted


def _before(store: ObjectStore, alive: str) -> Iterator[str]:
    for place, key in enumerate(store.list_keys(PREFIX)):
        if key >= alive or place == BATCH:
            return
        yield key
