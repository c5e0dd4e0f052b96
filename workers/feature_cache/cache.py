"""Finds and keeps entries: among the jobs in hand, on local disk, in the object store. Never on the device's thread.

A cache that is broken, full, damaged or out of reach only means that something is encoded again.
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
from workers.feature_cache.disk import DiskFeatureStore
from workers.feature_cache.entry import DamagedEntryError, Entry

log = logging.getLogger(__name__)

THREADS = 4
# A store that did not answer is left alone for so long: jobs shall not wait for it again and again.
PAUSE_S = 30.0
LARGEST_BYTES = 64 * 1024 * 1024
CONTENT_TYPE = "application/octet-stream"


class FeatureCache:
    """One a process; thread-safe.

    Args:
        disk: the local part.
        store: where all workers share; None keeps everything local.
        ttl_s: after one to two times that long an unused shared entry is gone.
    """

    def __init__(
        self,
        disk: DiskFeatureStore,
        store: ObjectStore | None,
        *,
        ttl_s: int,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._disk, self._store, self._ttl_s, self._now = disk, store, ttl_s, now
        self._active_jobs: weakref.WeakValueDictionary[str, Entry] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self._paused_until = float("-inf")
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="features")

    def find_object(self, keys: Sequence[str]) -> list[Entry]:
        """Return the keys' entries, in order; one that is known nowhere has no tensors yet."""
        with self._lock:
            entries = [self._active_jobs.setdefault(key, Entry(key)) for key in keys]
        list(self._threads.map(self._find, {entry.key: entry for entry in entries if not entry.tensors}.values()))
        return entries

    def keep(self, entry: Entry) -> None:
        """Keep what was encoded, soon."""
        if entry.tensors and not entry.kept:
            entry.kept = True
            self._threads.submit(self._write, entry)

    def close(self) -> None:
        """Write what is still to be written."""
        self._threads.shutdown()

    def _find(self, entry: Entry) -> None:
        try:
            content = self._disk.read(entry.key)
            if content is not None and self._fill(entry, content):
                return
            self._disk.remove(entry.key)
            content = self._download(entry.key)
            if content is not None and self._fill(entry, content):
                self._disk.write(entry.key, content)
        except Exception:
            # The boundary of the cache: no job may fail of it.
            log.exception("features of %s could not be looked up; they are encoded again", entry.key)

    def _fill(self, entry: Entry, content: bytes) -> bool:
        try:
            entry.fill(content)
        except DamagedEntryError as exc:
            log.warning("%s They are encoded again.", exc)
            return False
        return True

    def _write(self, entry: Entry) -> None:
        try:
            content = entry.to_bytes()
            self._disk.write(entry.key, content)
            self._upload(entry.key, content)
        except Exception:
            log.exception("features of %s could not be kept", entry.key)

    def _download(self, key: str) -> bytes | None:
        """Return a shared entry; one of the period before is taken over into this one, so that it stays."""
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
        log.warning("features are not shared for %.0f s: %s", PAUSE_S, exc)
        self._paused_until = self._now() + PAUSE_S
