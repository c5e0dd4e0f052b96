"""Follows the jobs of inbox files to their end: an unreadable file is refused, results are put into the outbox."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from sqlalchemy import ColumnElement, select, update

from jobs.db.database import Database
from jobs.db.tables import InboxFile, Job
from jobs.lifecycle import State
from jobs.log_limit import LogLimit
from jobs.log_lines import printable
from jobs.service.artifacts import artifact_expired, artifacts_by_job
from jobs.storage.protocol import ObjectStore
from workers.event_sources.inbox_folder import done_paths, refuse
from workers.event_sources.outbox import Outbox

log = logging.getLogger(__name__)

# Codes of failures that the file itself causes: the same file fails again.
UNREADABLE = frozenset({"media_error", "media_invalid", "media_encrypted", "media_too_large", "input_too_large"})
PAGE = 200
FIRST_RETRY_S = 2.0
LONGEST_RETRY_S = 300.0
# So long a pass may place results before files are taken again.
PASS_S = 10.0


@dataclass
class _Wait:
    """When a file's results are tried again."""

    until: float
    tries: int = field(default=1)


class InboxResults:
    """Deals with the ended jobs of one inbox.

    Args:
        outbox: folder for results; None: they stay in the object store.
    """

    def __init__(
        self,
        folder: Path,
        outbox: Path | None,
        db: Database,
        store: ObjectStore,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._db, self._monotonic = folder, db.of_platform(), monotonic
        self._outbox = Outbox(outbox, store) if outbox is not None else None
        self._waits: dict[str, _Wait] = {}
        self._limit = LogLimit(monotonic)
        self._page_after = ""

    def outbox_inodes(self) -> Collection[tuple[int, int]]:
        """Return device and inode of the outbox, which may lie inside the inbox."""
        return self._outbox.inodes() if self._outbox is not None else ()

    def step(self, inbox_id: str) -> None:
        """Deal with files whose job has ended; what fails is tried again after a pause, and delays no other file.

        Raises:
            SQLAlchemyError: the database fails.
        """
        until = self._monotonic() + PASS_S
        for file, job in self._ended(inbox_id):
            now = self._monotonic()
            wait = self._waits.get(file.id)
            if now >= until:
                return
            if wait is not None and now < wait.until:
                continue
            try:
                self._settle(file, job)
            except Exception as exc:
                tries = wait.tries + 1 if wait is not None else 1
                pause_s = min(FIRST_RETRY_S * 2 ** min(tries, 10), LONGEST_RETRY_S)
                self._waits[file.id] = _Wait(now + pause_s, tries)
                self._say_failed(file, job, exc)
            else:
                self._waits.pop(file.id, None)

    def _ended(self, inbox_id: str) -> list[tuple[InboxFile, Job]]:
        """Return the oldest files whose job has ended, and a further page, in turn, of all files.

        A page each, because the cost of a step must not grow with the number of queued jobs.
        """
        unsettled = (InboxFile.inbox_id == inbox_id, InboxFile.settled_at.is_(None))

        def page(*more: ColumnElement[bool]) -> list[InboxFile]:
            query = select(InboxFile).where(*unsettled, *more).order_by(InboxFile.job_id).limit(PAGE)
            return list(tx.session.scalars(query))

        with self._db.reading() as tx:
            oldest = page()
            further = page(InboxFile.job_id > self._page_after) if len(oldest) == PAGE else []
            self._page_after = further[-1].job_id if len(further) == PAGE else ""
            files = {file.job_id: file for file in [*oldest, *further]}
            ended = select(Job).where(Job.id.in_(files), Job.finished_at.is_not(None)).order_by(Job.id)
            return [(files[job.id], job) for job in tx.session.scalars(ended)]

    def _settle(self, file: InboxFile, job: Job) -> None:
        path = os.fsdecode(file.path)
        if job.state is State.FAILED:
            reason = str((job.error or {}).get("message", job.error_code))
            log.warning("inbox: job %s of %s failed: %s", job.id, printable(path), printable(reason))
            if job.error_code in UNREADABLE:
                self._refuse(path, job.id, reason)
        elif job.state is State.SUCCEEDED and self._outbox is not None:
            self._place(self._outbox, file, job, path)
        with self._db.transaction() as tx:
            tx.session.execute(update(InboxFile).where(InboxFile.id == file.id).values(settled_at=tx.now))

    def _refuse(self, path: str, job_id: str, reason: str) -> None:
        for moved in dict.fromkeys(done_paths(path, job_id)):
            if os.path.lexists(self._folder / moved):
                unwritten = refuse(self._folder, moved, path, f"{reason}\nJob: {job_id}")
                if unwritten is not None:
                    log.warning("inbox: the reason could not be written beside %s: %s", printable(path), unwritten)
                return
        log.info("inbox: %s is no longer in done/; it cannot be moved to refused/", printable(path))

    def _place(self, outbox: Outbox, file: InboxFile, job: Job, path: str) -> None:
        with self._db.reading() as tx:
            artifacts, now = artifacts_by_job(tx, [job.id])[job.id], tx.now
        for artifact in artifacts:
            record = dict(file.outbox).get(artifact.name)
            if record is not None and record["placed"]:
                continue
            if artifact_expired(artifact, now):
                log.error("inbox: %s of job %s has expired; the outbox does not get it", artifact.name, job.id)
                continue
            inside, stem = path.rpartition("/")[0], PurePath(path).stem
            take = f"-{artifact.take + 1}" if artifact.take else ""
            wanted = f"{inside}/{stem}{_mark(artifact.name)}{take}.{artifact.format}".lstrip("/")

            def record_name(name: str, *, placed: bool, of: str = artifact.name) -> None:
                self._record(file, of, name, placed=placed)

            placed = outbox.place(artifact, wanted, record["path"] if record is not None else None, record_name)
            log.info("inbox: put %s of job %s into the outbox as %s", artifact.name, job.id, printable(placed))

    def _record(self, file: InboxFile, artifact: str, name: str, *, placed: bool) -> None:
        """Record where an artifact goes before it is there, and then that it is there."""
        file.outbox = {**file.outbox, artifact: {"path": name, "placed": placed}}
        with self._db.transaction() as tx:
            tx.session.execute(update(InboxFile).where(InboxFile.id == file.id).values(outbox=file.outbox))

    def _say_failed(self, file: InboxFile, job: Job, exc: Exception) -> None:
        if self._limit.allows(type(exc).__name__):
            where = printable(os.fsdecode(file.path))
            expected = isinstance(exc, OSError)
            log.warning(
                "inbox: the end of job %s of %s could not be dealt with and is tried again: %s: %s",
                job.id, where, type(exc).__name__, printable(str(exc)), exc_info=not expected,
            )  # fmt: skip


def _mark(name: str) -> str:
    """Return what distinguishes the sound files of a job with a mix."""
    match = re.match(r"audio(-effect|-mix)[-.]", name)
    return match[1] if match else ""
