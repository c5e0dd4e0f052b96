"""Compares rows with stored objects. Both are read in key order and in ranges, so neither is ever whole in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

from sqlalchemy import ColumnElement, select

from jobs.db.database import Database
from jobs.db.tables import Artifact, Job, Upload
from jobs.doctor.finding import Finding, Kind
from jobs.lifecycle import State
from jobs.service.artifacts import mark_artifact_missing
from jobs.service.uploads import mark_upload_missing
from jobs.storage.errors import ObjectNotFoundError
from jobs.storage.protocol import ObjectStore

RANGE = 200


@dataclass(frozen=True)
class _Owner:
    """The objects of one job or upload, grouped by the id in their keys."""

    id: str
    keys: tuple[str, ...]


class ObjectsCheck:
    """Finds artifacts and uploads without objects, and objects without rows.

    Args:
        grace_s: skip objects younger than this; their row may not be committed yet.
    """

    def __init__(self, db: Database, store: ObjectStore, *, grace_s: float) -> None:
        self._db, self._store, self._grace_s = db, store, grace_s

    def run(self) -> Iterator[Finding]:
        """Yield the inconsistencies between rows and objects."""
        yield from self._compare("jobs/", Artifact.job_id, self._artifacts)
        yield from self._compare("uploads/", Upload.id, self._uploads)

    def _compare(
        self,
        prefix: str,
        owner_id: Any,
        check: Callable[[list[_Owner], ColumnElement[bool]], Iterator[Finding]],
    ) -> Iterator[Finding]:
        """Read the listing in ranges of owner ids and compare each with the rows of the same range."""
        after = ""
        for owners in _ranges(_owners(self._store.list_keys(prefix))):
            last = owners[-1].id
            yield from check(owners, (owner_id > after) & (owner_id <= last))
            after = last
        yield from check([], owner_id > after)

    def _artifacts(self, owners: list[_Owner], of_range: ColumnElement[bool]) -> Iterator[Finding]:
        with self._db.reading() as tx:
            rows = list(tx.session.scalars(select(Artifact).where(of_range, Artifact.deleted_at.is_(None))))
            held = select(Job.id, Job.attempt).where(
                Job.id.in_([owner.id for owner in owners]), Job.state == State.RUNNING
            )
            running = {row.id: row.attempt for row in tx.session.execute(held)}
            now = tx.now
        listed = {key for owner in owners for key in owner.keys}
        for row in rows:
            if row.storage_key not in listed and self._is_missing(row.storage_key):
                yield self._artifact_missing(row)
        known = {row.storage_key for row in rows}
        for owner in owners:
            current = f"jobs/{owner.id}/{running[owner.id]}/" if owner.id in running else None
            for key in owner.keys:
                if key not in known and not (current and key.startswith(current)):
                    yield from self._orphaned(key, now)

    def _uploads(self, owners: list[_Owner], of_range: ColumnElement[bool]) -> Iterator[Finding]:
        with self._db.reading() as tx:
            rows = list(tx.session.scalars(select(Upload).where(of_range, Upload.deleted_at.is_(None))))
            now = tx.now
        listed = {key for owner in owners for key in owner.keys}
        for row in rows:
            if row.checked_at is not None and row.storage_key not in listed and self._is_missing(row.storage_key):
                yield self._upload_missing(row)
        known = {row.storage_key for row in rows}
        for key in sorted(listed - known):
            yield from self._orphaned(key, now)

    def _artifact_missing(self, row: Artifact) -> Finding:
        def fix() -> None:
            self._db.run(lambda tx: mark_artifact_missing(tx, row.job_id, row.name), repeatable=True)

        return Finding(Kind.ARTIFACT_MISSING, f"{row.job_id}/{row.name}", f"{row.storage_key} does not exist", fix)

    def _upload_missing(self, row: Upload) -> Finding:
        def fix() -> None:
            self._db.run(lambda tx: mark_upload_missing(tx, row.id), repeatable=True)

        return Finding(Kind.UPLOAD_MISSING, row.id, f"{row.storage_key} does not exist", fix)

    def _orphaned(self, key: str, now: datetime) -> Iterator[Finding]:
        try:
            found = self._store.head(key)
        except ObjectNotFoundError:
            return
        if found.last_modified < now - timedelta(seconds=self._grace_s):
            detail = f"{found.size_bytes} bytes, written {found.last_modified:%Y-%m-%d %H:%M}, no row points at it"
            yield Finding(Kind.OBJECT_ORPHANED, key, detail, lambda: self._store.delete([key]))

    def _is_missing(self, key: str) -> bool:
        """Check again with a HEAD: the row may be younger than the listing."""
        try:
            self._store.head(key)
        except ObjectNotFoundError:
            return True
        return False


def _owners(keys: Iterable[str]) -> Iterator[_Owner]:
    for owner_id, group in groupby(keys, key=lambda key: key.split("/")[1]):
        yield _Owner(owner_id, tuple(group))


def _ranges(owners: Iterator[_Owner]) -> Iterator[list[_Owner]]:
    part: list[_Owner] = []
    for owner in owners:
        part.append(owner)
        if len(part) == RANGE:
            yield part
            part = []
    if part:
        yield part
