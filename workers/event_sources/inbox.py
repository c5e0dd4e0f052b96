"""The watched folder of the embedded default: each file put into it becomes one job and moves to `done/`.

A file is submitted when it has not changed for a while and no process has it open for writing. A file that cannot
become a job moves to `refused/`, with a reason; whatever one file causes, the others are taken. `inbox_results` follows
the jobs.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import re
import signal
import stat
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from jobs.db.database import Database
from jobs.db.faults import is_value_fault
from jobs.db.tables import InboxFile
from jobs.errors import DomainError, QueueFullError, RequestInvalidError, UploadMismatchError
from jobs.log_limit import LogLimit
from jobs.log_lines import printable
from jobs.request import METADATA_BYTES, METADATA_PAIRS, JobRequest
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import store_upload
from jobs.settings import Settings
from jobs.storage.errors import StorageError
from jobs.storage.protocol import ObjectStore
from workers.event_sources.inbox_folder import (
    IMAGES,
    LOCK,
    OF_ONE_FILE,
    Entry,
    NotTheFileError,
    Stamp,
    done_paths,
    list_entries,
    move,
    opened,
    refuse,
)
from workers.event_sources.inbox_results import InboxResults
from workers.event_sources.inbox_untaken import UntakenFiles

log = logging.getLogger(__name__)

INTERVAL_S = 1.0
# A file that can neither be taken nor moved is tried again after this time.
RETRY_MOVE_S = 600.0
# Somebody may forget a program that holds a file open.
SAY_OPEN_AFTER_S = 60.0
PATH_FIELD = "inbox_path"
"""Field of a job's metadata: the file's path in the inbox."""
_ID_SHAPE = re.compile(r"[0-9a-f]{32}")


class _RefusedError(Exception):
    """Raised for a file that cannot become a job."""


@dataclass(frozen=True)
class _Unchanged:
    """The stamp of a file, and since when it has not changed."""

    stamp: Stamp
    since: float


@dataclass(frozen=True)
class _PutAside:
    """A file that can neither be taken nor moved now."""

    stamp: Stamp
    until: float
    reason: str


@dataclass(frozen=True)
class _Stored:
    """The upload of a file whose job has to wait, and when it was stored."""

    upload_id: str
    at: float


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
        # Another tenant in the settings must not lose the files that were taken for the one before.
        self._db, self._own_db = db.of_platform(), db.of_tenant(settings.inbox_tenant)
        self._store, self._policy, self._submitted = store, policy, submitted
        self._monotonic = monotonic
        self._inbox_id: str | None = None
        self._unchanged: dict[str, _Unchanged] = {}
        self._uploads: dict[str, _Stored] = {}
        self._put_aside: dict[str, _PutAside] = {}
        self._resume_after = ""
        self._untaken = UntakenFiles(folder)
        self._limit = LogLimit(monotonic)
        self._results = InboxResults(folder, settings.outbox, self._db, store, monotonic=monotonic)

    def step(self, stop: threading.Event) -> None:
        """Scan the folder once, then wait."""
        self.scan(stop)
        stop.wait(INTERVAL_S)

    def scan(self, stop: threading.Event | None = None) -> None:
        """Submit the files that are complete, and deal with the jobs that have ended.

        Raises:
            OSError, StorageError, SQLAlchemyError: the folder, the store or the database fails. The next scan begins
                behind the file that met it, so that no file stops those after it.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._locked() as inbox_id:
            if inbox_id is None:
                return
            self._inbox_id = inbox_id
            try:
                self._take_files(stop or threading.Event())
            finally:
                self._results.step(inbox_id)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[str | None]:
        """Lock the folder, or yield None when another process has it; the lock file holds the folder's id."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        with os.fdopen(os.open(self._folder / LOCK, flags, 0o666), "r+b", buffering=0) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise OSError(errno.EINVAL, "it is not a regular file; remove it", str(self._folder / LOCK))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
                return
            inbox_id = (file.read(64) or b"").decode("ascii", "replace").strip()
            if not _ID_SHAPE.fullmatch(inbox_id):
                # A folder that was removed and made again is still the same inbox.
                inbox_id = self._inbox_id or uuid.uuid4().hex
                os.pwrite(file.fileno(), f"{inbox_id}\n".encode(), 0)
                os.ftruncate(file.fileno(), len(inbox_id) + 1)
            yield inbox_id

    def _take_files(self, stop: threading.Event) -> None:
        entries = sorted(list_entries(self._folder, skipped=self._results.outbox_inodes()), key=lambda e: e.path)
        candidates = self._candidates(entries)
        behind = [entry for entry in candidates if entry.path > self._resume_after]
        for entry in [*behind, *(entry for entry in candidates if entry.path <= self._resume_after)]:
            if stop.is_set():
                return
            self._resume_after = entry.path
            if not self._is_open(entry) and not self._take(entry):
                return
        self._resume_after = ""

    def _candidates(self, entries: list[Entry]) -> list[Entry]:
        """Return the files that have not changed for a while, and report those that are not taken."""
        now = self._monotonic()
        candidates: list[Entry] = []
        untaken: dict[str, str] = {}
        present: dict[str, _Unchanged] = {}
        aside: dict[str, _PutAside] = {}
        for entry in entries:
            before = self._unchanged.get(entry.path)
            if before is None or before.stamp != entry.stamp:
                present[entry.path] = _Unchanged(entry.stamp, now)
                continue
            present[entry.path] = before
            if now - before.since < self._settings.inbox_quiet_s:
                continue
            put = self._put_aside.get(entry.path)
            if put is not None and put.stamp == entry.stamp:
                aside[entry.path], untaken[entry.path] = put, put.reason
                if now < put.until:
                    continue
            if entry.untaken is not None:
                untaken[entry.path] = entry.untaken
            else:
                candidates.append(entry)
        self._unchanged, self._put_aside = present, aside
        self._untaken.report(untaken)
        return candidates

    def _is_open(self, entry: Entry) -> bool:
        """Return whether a process has the file open for writing; one that is open for long is said to be."""
        try:
            with opened(self._folder, entry) as path:
                is_open = _open_for_writing(path)
        except NotTheFileError:
            return True  # it has changed just now
        except OSError:
            return False  # what opens it next tells why it cannot be opened
        if is_open and self._monotonic() - self._unchanged[entry.path].since >= SAY_OPEN_AFTER_S:
            self._set_aside(entry, "a program has it open for writing; it is taken when that has closed it", for_s=0)
        return is_open

    def _set_aside(self, entry: Entry, reason: str, *, for_s: float = RETRY_MOVE_S) -> None:
        self._put_aside[entry.path] = _PutAside(entry.stamp, self._monotonic() + for_s, reason)

    def _take(self, entry: Entry) -> bool:
        """Make a job of a file, or refuse it; return False when no further file can be taken now."""
        try:
            self._process(entry)
        except NotTheFileError as exc:
            log.debug("inbox: %s", exc)
        except UploadMismatchError:
            log.info("inbox: %s changed while it was read", entry.shown)
        except _RefusedError as exc:
            self._refuse(entry, str(exc))
        except DomainError as exc:  # the queue is full, or another limit of this server
            if self._limit.allows("wait"):
                log.warning("inbox: %s and the files after it wait: %s", entry.shown, exc.message)
            if isinstance(exc, QueueFullError):
                self._resume_after = ""  # this file is the next one
            return False
        except Exception as exc:
            if not _is_of_one_file(exc):
                raise
            log.warning("inbox: %s cannot be taken", entry.shown, exc_info=not isinstance(exc, OSError))
            reason = exc.strerror if isinstance(exc, OSError) else f"{type(exc).__name__}: {exc}"
            self._refuse(entry, f"The file could not be taken: {printable(str(reason))}.")
        return True

    def _process(self, entry: Entry) -> None:
        # After a crash between commit and move, the same file has the same id and so the same job.
        job_id = self._submitted_job_id(entry.id) or self._submit(entry)
        status = (self._folder / entry.path).lstat()
        if (status.st_ino, status.st_size, status.st_mtime_ns) != entry.stamp:
            raise NotTheFileError(f"{entry.shown} was replaced after it had been submitted as job {job_id}.")
        try:
            move(self._folder, entry.path, *done_paths(entry.path, job_id))
        except OSError as exc:
            if not _is_of_one_file(exc):
                raise
            self._set_aside(entry, f"it is job {job_id}, but it cannot be moved to done/ ({exc.strerror})")
        else:
            log.info("inbox: submitted %s as job %s", entry.shown, job_id)

    def _submitted_job_id(self, file_id: str) -> str | None:
        with self._db.reading() as tx:
            row = tx.session.get(InboxFile, file_id)
            return row.job_id if row is not None else None

    def _submit(self, entry: Entry) -> str:
        size_bytes = entry.stamp[1]
        if not 0 < size_bytes <= self._settings.max_upload_bytes:
            raise _RefusedError(
                f"The file has {size_bytes} bytes; allowed are 1 to {self._settings.max_upload_bytes} bytes."
            )
        field = "image" if entry.suffix in IMAGES else "video"
        upload_id = self._upload(entry, f"{field}/{entry.suffix[1:]}")
        policy = self._policy()
        try:
            request = JobRequest.model_validate({**self._request_fields(entry), field: upload_id})
            with self._own_db.transaction() as tx:
                job = submit(tx, request, policy=policy).job
                tx.session.add(
                    InboxFile(
                        id=entry.id,
                        inbox_id=self._inbox_id,
                        path=os.fsencode(entry.path),
                        job_id=job.id,
                        outbox={},
                    )
                )
        except ValidationError as exc:
            raise _RefusedError(f"MMAUDIO_INBOX_REQUEST is not a valid request: {_first_problem(exc)}") from exc
        except RequestInvalidError as exc:
            raise _RefusedError(exc.message) from exc
        except IntegrityError:  # another process has submitted it, on a file system without locks
            job_id = self._submitted_job_id(entry.id)
            if job_id is None:
                raise
            return job_id
        del self._uploads[entry.id]
        try:
            self._submitted(job.variant)
        except Exception:
            log.exception("inbox: job %s waits for maintenance: it could not be dispatched", job.id)
        return job.id

    def _request_fields(self, entry: Entry) -> dict[str, Any]:
        """Return the fields of the settings, with the path in the metadata where there is room for it."""
        fields = dict(self._settings.inbox_request)
        metadata = fields.get("metadata")
        if metadata is None or (isinstance(metadata, dict) and len(metadata) < METADATA_PAIRS):
            shown = entry.shown.encode()[:METADATA_BYTES].decode(errors="ignore")
            fields["metadata"] = {PATH_FIELD: shown, **(metadata or {})}
        return fields

    def _upload(self, entry: Entry, content_type: str) -> str:
        """Upload the file, or return the upload of an earlier scan that found the queue full."""
        now = self._monotonic()
        stored = self._uploads.get(entry.id)
        if stored is None or now - stored.at > self._settings.upload_ttl_s / 2:
            # At most one file waits for the queue; the uploads of others that were left expire by themselves.
            self._uploads.clear()
            with opened(self._folder, entry) as path:
                upload_id = store_upload(
                    self._own_db,
                    self._store,
                    path,
                    filename=os.fsencode(entry.name).decode(errors="replace"),
                    content_type=content_type,
                    ttl_s=self._settings.upload_ttl_s,
                )
            stored = self._uploads[entry.id] = _Stored(upload_id, now)
        return stored.upload_id

    def _refuse(self, entry: Entry, reason: str) -> None:
        log.warning("inbox: refused %s: %s", entry.shown, reason)
        try:
            unwritten = refuse(self._folder, entry.path, entry.path, reason)
        except NotTheFileError as exc:
            log.debug("inbox: %s", exc)
        except OSError as exc:
            if not _is_of_one_file(exc):
                raise
            self._set_aside(entry, f"{reason} It cannot be moved to refused/ either ({exc.strerror}).")
        else:
            if unwritten is not None:
                log.warning("inbox: the reason could not be written beside %s: %s", entry.shown, unwritten)


def _is_of_one_file(exc: Exception) -> bool:
    """Return whether an error concerns one file only; otherwise a service or this machine is at fault."""
    if isinstance(exc, SQLAlchemyError):
        return is_value_fault(exc)
    if isinstance(exc, OSError):
        return exc.errno in OF_ONE_FILE
    return not isinstance(exc, StorageError | MemoryError)


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
