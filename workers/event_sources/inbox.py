"""The watched folder of the embedded default: each file put into it becomes one job and moves to `done/`.

A file is submitted when it has not changed for a while and no process has it open for writing. Names that begin with a
dot or end like an unfinished download are ignored. A file that cannot become a job moves to `refused/`, with a reason.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from jobs.db.database import Database
from jobs.db.tables import IdempotencyKey
from jobs.errors import QueueFullError, RequestInvalidError
from jobs.private_files import match_folder
from jobs.request import JobRequest
from jobs.service.submission import Idempotency, SubmitPolicy, submit
from jobs.service.uploads import store_upload
from jobs.settings import Settings
from jobs.storage.protocol import ObjectStore

log = logging.getLogger(__name__)

TENANT = "default"
SCOPE = "inbox"
VIDEOS = frozenset({".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts"})
IMAGES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
UNFINISHED = (".part", ".partial", ".tmp", ".crdownload", ".download", "~")
INTERVAL_S = 1.0


class _RefusedError(Exception):
    """Raised for a file that cannot become a job."""


@dataclass(frozen=True)
class _Unchanged:
    """The stamp of a file, and since when it has not changed."""

    stamp: tuple[int, int, int]  # inode, size, modification time
    since: float


class InboxSource:
    """Watches one folder. Of several processes that watch it, one scans at a time.

    Args:
        policy: returns the current limits of submission.
        submitted: called with the variant of each new job.
    """

    name = "inbox"

    def __init__(
        self,
        folder: Path,
        settings: Settings,
        db: Database,
        store: ObjectStore,
        policy: Callable[[], SubmitPolicy],
        submitted: Callable[[str], None],
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._settings = folder, settings
        self._db, self._store, self._policy, self._submitted = db, store, policy, submitted
        self._monotonic = monotonic
        self._unchanged: dict[str, _Unchanged] = {}
        self._uploads: dict[str, str] = {}

    def step(self, stop: threading.Event) -> None:
        """Scan the folder once, then wait."""
        self.scan()
        stop.wait(INTERVAL_S)

    def scan(self) -> None:
        """Submit the files that are complete."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked() as locked:
            if not locked:
                return
            present = sorted(entry.name for entry in os.scandir(self._folder) if entry.is_file(follow_symlinks=False))
            self._unchanged = {name: value for name, value in self._unchanged.items() if name in present}
            for name in present:
                if _is_candidate(name) and self._is_complete(name):
                    self._process(name)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[bool]:
        with (self._folder / ".lock").open("ab") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True

    def _is_complete(self, name: str) -> bool:
        path = self._folder / name
        try:
            status = path.stat()
        except FileNotFoundError:
            return False
        stamp, now = (status.st_ino, status.st_size, status.st_mtime_ns), self._monotonic()
        before = self._unchanged.get(name)
        if before is None or before.stamp != stamp:
            self._unchanged[name] = _Unchanged(stamp, now)
            return False
        return now - before.since >= self._settings.inbox_quiet_s and not _open_for_writing(path)

    def _process(self, name: str) -> None:
        path = self._folder / name
        status = path.stat()
        # After a crash between commit and move, the same file has the same key and so the same job.
        key = hashlib.sha256(f"{name}\n{status.st_ino}\n{status.st_size}\n{status.st_mtime_ns}".encode()).hexdigest()
        try:
            job_id = self._submitted_job_id(key) or self._submit(path, key, status.st_size)
        except _RefusedError as exc:
            self._refuse(path, str(exc))
        except QueueFullError as exc:
            log.info("inbox: %s waits: %s", name, exc.message)
        else:
            done = self._folder / "done"
            _make_shared(done)
            path.rename(done / f"{job_id}-{name}"[:255])
            log.info("inbox: submitted %s as job %s", name, job_id)

    def _submitted_job_id(self, key: str) -> str | None:
        with self._db.reading() as tx:
            row = tx.session.get(IdempotencyKey, (TENANT, SCOPE, key))
            return row.job_id if row is not None else None

    def _submit(self, path: Path, key: str, size_bytes: int) -> str:
        if not 0 < size_bytes <= self._settings.max_upload_bytes:
            raise _RefusedError(
                f"The file has {size_bytes} bytes; allowed are 1 to {self._settings.max_upload_bytes} bytes."
            )
        field = "image" if path.suffix.lower() in IMAGES else "video"
        content_type = f"{field}/{path.suffix[1:].lower()}"
        upload_id = self._upload(path, key, content_type)
        policy = self._policy()
        try:
            request = JobRequest.model_validate({**self._settings.inbox_request, field: upload_id})
            with self._db.transaction() as tx:
                idempotency = Idempotency(SCOPE, key, key)
                job = submit(tx, request, tenant=TENANT, policy=policy, idempotency=idempotency).job
        except ValidationError as exc:
            raise _RefusedError(f"MMAUDIO_INBOX_REQUEST is not a valid request: {_first_problem(exc)}") from exc
        except RequestInvalidError as exc:
            raise _RefusedError(exc.message) from exc
        del self._uploads[key]
        self._submitted(job.variant)
        return job.id

    def _upload(self, path: Path, key: str, content_type: str) -> str:
        """Upload the file, or return the upload of an earlier scan that found the queue full."""
        if key not in self._uploads:
            self._uploads[key] = store_upload(
                self._db,
                self._store,
                path,
                tenant=TENANT,
                filename=path.name,
                content_type=content_type,
                ttl_s=self._settings.upload_ttl_s,
            )
        return self._uploads[key]

    def _refuse(self, path: Path, reason: str) -> None:
        log.warning("inbox: refused %s: %s", path.name, reason)
        refused = self._folder / "refused"
        _make_shared(refused)
        note = refused / f"{path.name}.reason.txt"[-255:]
        note.write_text(f"{reason}\n", encoding="utf-8")
        match_folder(note)
        path.rename(refused / path.name)


def _make_shared(folder: Path) -> None:
    """Make a folder in the watched one, for the people who share that."""
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        match_folder(folder)


def _is_candidate(name: str) -> bool:
    lowered = name.lower()
    if name.startswith(".") or lowered.endswith(UNFINISHED):
        return False
    return Path(lowered).suffix in VIDEOS | IMAGES


def _open_for_writing(path: Path) -> bool:
    """Return whether a process has the file open for writing; the kernel grants a read lease only if none has."""
    with path.open("rb") as file:
        # A process that opens it now makes the kernel signal this one; the default signal would end it.
        fcntl.fcntl(file, fcntl.F_SETSIG, signal.SIGURG)
        try:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        except OSError as exc:
            # Other errors: the file of another user, or a file system without leases; then `inbox_quiet_s` has to do.
            return exc.errno == errno.EAGAIN
        fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    return False


def _first_problem(exc: ValidationError) -> str:
    first: Any = exc.errors()[0]
    return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
