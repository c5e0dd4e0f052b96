"""Looks up and stores cached features: shared by running jobs, on local disk, in the object store.

Never runs on the device's thread. A cache that is broken, full, damaged or unreachable only costs another encoding; no
job may fail because of it.
"""

from __future__ import annotations

import io
import logging
import threading
import time
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from jobs.shared_features import feature_key, period_of
from jobs.storage.errors import ObjectNotFoundError, StorageError
from jobs.storage.protocol import ObjectStore
from workers.disk_full import DiskFullLog
from workers.feature_cache.disk import DiskFeatureStore
from workers.feature_cache.entry import DamagedEntryError, Entry

log = logging.getLogger(__name__)

THREADS = 4
# How long a store that did not answer is not asked again, so that jobs do not wait for it one after the other.
PAUSE_S = 30.0
LARGEST_BYTES = 64 * 1024 * 1024
CONTENT_TYPE = "application/octet-stream"


class FeatureCache:
    """The feature cache of one process. Thread-safe.

    Args:
        disk: the local part.
        store: the part that all workers share; None for a local cache.
        ttl_s: an unused shared entry is deleted after one to two times that long.
        disk_full: where a full disk is logged.
    """

    def __init__(
        self,
        disk: DiskFeatureStore,
        store: ObjectStore | None,
        *,
        ttl_s: int,
        disk_full: DiskFullLog | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._disk, self._store, self._ttl_s, self._now = disk, store, ttl_s, now
        self._disk_full = disk_full or DiskFullLog()
        self._shared: weakref.WeakValueDictionary[str, Entry] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._paused_until = float("-inf")
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="features")

    def find(self, keys: Sequence[str]) -> list[Entry]:
        """Return the entries of the keys, in order; an entry that is not cached has no tensors."""
        with self._lock:
            entries = [self._shared.setdefault(key, Entry(key)) for key in keys]
        list(self._threads.map(self._fill, {entry.key: entry for entry in entries if not entry.tensors}.values()))
        return entries

    def store(self, entry: Entry) -> None:
        """Store an entry in the background, once."""
        if entry.tensors and not entry.stored:
            entry.stored = True
            self._threads.submit(self._write, entry)

    def close(self) -> None:
        """Finish all pending writes."""
        self._threads.shutdown()

    def _fill(self, entry: Entry) -> None:
        try:
            content = self._disk.read(entry.key)
            if content is not None and self._load(entry, content):
                return
            self._disk.remove(entry.key)
            content = self._download(entry.key)
            if content is not None and self._load(entry, content):
                self._disk.write(entry.key, content)
        except Exception:
            # The boundary of the cache: no job may fail because of it.
            log.exception("cached features of %s could not be read; they are encoded again", entry.key)

    def _load(self, entry: Entry, content: bytes) -> bool:
        try:
            entry.load(content)
        except DamagedEntryError as exc:
            log.warning("%s They are encoded again.", exc)
            return False
        return True

    def _write(self, entry: Entry) -> None:
        try:
            content = entry.to_bytes()
            self._disk.write(entry.key, content)
            self._upload(entry.key, content)
        except Exception as exc:
            if not self._disk_full.report(exc):
                log.exception("features of %s could not be cached", entry.key)

    def _download(self, key: str) -> bytes | None:
        """Return a shared entry; one of the previous period is copied into the current one, so that it stays."""
        if self._store is None or self._now() < self._paused_until:
            return None
        period = period_of(self._now(), self._ttl_s)
        for age in (0, 1):
            try:
                content = b"".join(self._store.open_read(feature_key(period - age, key)))
            except ObjectNotFoundError:
                continue
            except StorageError as exc:
                self._pause(exc)
                return None
            if age:
                self._threads.submit(self._upload, key, content)
            return content
        return None

    def _upload(self, key: str, content: bytes) -> None:
        if self._store is None or self._now() < self._paused_until:
            return
        name = feature_key(period_of(self._now(), self._ttl_s), key)
        try:
            self._store.put_stream(name, io.BytesIO(content), content_type=CONTENT_TYPE, max_bytes=LARGEST_BYTES)
        except StorageError as exc:
            self._pause(exc)

    def _pause(self, exc: StorageError) -> None:
        if not self._disk_full.report(exc):
            log.warning("features are not shared for %.0f s: %s", PAUSE_S, exc)
        self._paused_until = self._now() + PAUSE_S
