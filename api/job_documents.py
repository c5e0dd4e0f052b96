"""The latest documents of jobs, so that they are made once for each version of a job."""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass, field

# The documents that are kept take at most this much memory.
KEPT_BYTES = 32 * 1024 * 1024


@dataclass
class JobDocuments:
    """The latest documents, by job. Thread-safe."""

    _kept: OrderedDict[tuple[str, str], tuple[object, bytes]] = field(default_factory=OrderedDict)
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: tuple[str, str], mark: object) -> bytes | None:
        """Return the document of a job if it was made for this mark."""
        with self._lock:
            found = self._kept.get(key)
            if found is None or found[0] != mark:
                return None
            self._kept.move_to_end(key)
            return found[1]

    def put(self, key: tuple[str, str], mark: object, document: bytes) -> None:
        """Keep a document; forget those that were asked for longest ago when there are too many."""
        with self._lock:
            before = self._kept.pop(key, None)
            self._bytes += len(document) - (len(before[1]) if before is not None else 0)
            self._kept[key] = (mark, document)
            while self._bytes > KEPT_BYTES:
                _, (_, oldest) = self._kept.popitem(last=False)
                self._bytes -= len(oldest)
