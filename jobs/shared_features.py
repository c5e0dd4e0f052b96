"""Keys and expiry of cached features in the object store: the current period and the one before are kept.

Entries that are used are copied into the current period; the others expire after one to two periods. So no last-read
times are needed, and expired entries come first in a list of keys.
"""

from __future__ import annotations

from collections.abc import Iterator

from jobs.storage.protocol import ObjectStore

PREFIX = "features/"
BATCH = 500


def period_of(now_s: float, ttl_s: int) -> int:
    """Return the number of the period of a time (Unix seconds)."""
    return int(now_s // ttl_s)


def feature_key(period: int, key: str) -> str:
    """Return the key of an entry's object; periods sort by name."""
    return f"{PREFIX}{period:08d}/{key}"


def expire_features(store: ObjectStore, *, now_s: float, ttl_s: int) -> int:
    """Delete the entries of expired periods; return how many.

    Raises:
        StorageError: the store failed; the next call deletes the rest.
    """
    oldest_kept, deleted = f"{PREFIX}{period_of(now_s, ttl_s) - 1:08d}/", 0
    while expired := list(_before(store, oldest_kept)):
        store.delete(expired)
        deleted += len(expired)
    return deleted


def _before(store: ObjectStore, oldest_kept: str) -> Iterator[str]:
    for count, key in enumerate(store.list_keys(PREFIX)):
        if key >= oldest_kept or count == BATCH:
            return
        yield key
