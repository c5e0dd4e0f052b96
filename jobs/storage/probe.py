"""Proves that a process may use its object store, by doing with a small object all that jobs do with theirs."""

from __future__ import annotations

import io
import secrets

from jobs.storage.errors import StorageUnavailableError
from jobs.storage.protocol import ObjectStore

PREFIX = "probes/"


def prove_store(store: ObjectStore, name: str) -> None:
    """Write, list, read and delete an object of its own, `probes/<name>`.

    Without the right to list, S3 does not tell a missing object from a forbidden one, so listing is proved too.

    Raises:
        StorageError: what the store refused, or that it did not answer.
    """
    key, content = PREFIX + name, secrets.token_hex(16).encode()
    store.put_stream(key, io.BytesIO(content), content_type="text/plain", max_bytes=len(content))
    if key not in store.list_keys(key):
        raise StorageUnavailableError(f"The store does not list {key!r}, which was just written.", store.backend)
    if b"".join(store.open_read(key)) != content:
        raise StorageUnavailableError(f"The store returned other bytes than those written to {key!r}.", store.backend)
    store.delete([key])
