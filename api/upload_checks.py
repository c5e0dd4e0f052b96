"""Checks content that callers sent directly to the object store: copies and hashes, which may take long.

They run in a few threads of their own. A request waits a short time for the result, and few requests do so at once: a
store that hangs holds none of the threads that other answers need.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from jobs.errors import DomainError

THREADS = 4
# Checks that run or wait for a thread.
MAX_CHECKS = 32
# Requests that wait at once.
MAX_WAITING = 8
WAIT_S = 2.0


class UploadCheckPendingError(DomainError):
    """Raised when the check of an upload takes longer than a request waits; it goes on."""

    code = "upload_check_pending"


@dataclass
class UploadChecks:
    """Runs one check per upload at a time. Thread-safe.

    Args:
        wait_s: how long a request waits for a check.
    """

    wait_s: float = WAIT_S
    _running: dict[str, Future[None]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _waiting: threading.BoundedSemaphore = field(default_factory=lambda: threading.BoundedSemaphore(MAX_WAITING))
    _pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(THREADS, thread_name_prefix="upload-check")
    )

    def run(self, upload_id: str, check: Callable[[], None]) -> None:
        """Run a check, or join the one of the same upload that runs; raise what it raises.

        Raises:
            UploadCheckPendingError: no result within `wait_s`, or too many checks run already.
        """
        if not self._waiting.acquire(blocking=False):
            raise self._pending(upload_id)
        try:
            self._start(upload_id, check).result(self.wait_s)
        except TimeoutError as exc:
            raise self._pending(upload_id) from exc
        finally:
            self._waiting.release()

    def _start(self, upload_id: str, check: Callable[[], None]) -> Future[None]:
        with self._lock:
            running = self._running.get(upload_id)
            if running is not None:
                return running
            if len(self._running) >= MAX_CHECKS:
                raise self._pending(upload_id)
            started = self._running[upload_id] = self._pool.submit(check)
        started.add_done_callback(lambda _: self._forget(upload_id))
        return started

    def _forget(self, upload_id: str) -> None:
        with self._lock:
            self._running.pop(upload_id, None)

    @staticmethod
    def _pending(upload_id: str) -> UploadCheckPendingError:
        return UploadCheckPendingError(f"Upload {upload_id} is still being checked; send the request again soon.")
