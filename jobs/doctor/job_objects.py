"""Compares the artifacts of jobs with their objects, one range of jobs at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import exists, or_, select, tuple_

from jobs.db.database import Database
from jobs.db.tables import Artifact, Job
from jobs.doctor.brake import Population
from jobs.doctor.finding import Action, Finding, Kind
from jobs.doctor.listing import JOB_KEY, OwnerRange
from jobs.doctor.stored_objects import StoredObjects
from jobs.lifecycle import State
from jobs.service.artifact_metadata import NotDescribedError, artifact_from_object
from jobs.storage.presence import object_exists
from jobs.storage.protocol import ObjectStore

PAGE = 500
RETRY_HINT = "retry the job (`mmaudio retry ID`) to make it again"


@dataclass(frozen=True)
class _JobRows:
    """State and attempt of some jobs, and their artifacts' rows by key."""

    states: dict[str, tuple[State, int]]
    artifacts: dict[str, Artifact]


class JobObjects:
    """Finds artifacts without objects, objects without rows, and successes with neither."""

    def __init__(self, db: Database, store: ObjectStore, objects: StoredObjects, examined: Counter[Population]) -> None:
        self._db, self._store, self._objects, self._examined = db, store, objects, examined

    def compare(self, part: OwnerRange) -> Iterator[Finding]:
        """Yield the inconsistencies of the jobs of a range."""
        rows = self._rows(part)
        for owner in part.owners:
            self._examined[Population.OBJECTS] += len(owner.keys)
            for key in owner.keys:
                yield from self._object(owner.id, key, rows)
        yield from self._missing(part)
        yield from self._empty_successes(part)

    def _rows(self, part: OwnerRange) -> _JobRows:
        with self._db.reading() as tx:
            states = tx.session.execute(select(Job.id, Job.state, Job.attempt).where(Job.id.in_(part.ids)))
            artifacts = tx.session.scalars(select(Artifact).where(Artifact.job_id.in_(part.ids)))
            return _JobRows(
                {row.id: (row.state, row.attempt) for row in states}, {row.storage_key: row for row in artifacts}
            )

    def _object(self, job_id: str, key: str, rows: _JobRows) -> Iterator[Finding]:
        match, row = JOB_KEY.fullmatch(key), rows.artifacts.get(key)
        assert match is not None, key
        attempt = int(match["attempt"])
        if row is not None:
            if row.deleted_at is not None:
                yield from self._still_stored(row)
            return
        if job_id not in rows.states:
            yield from self._objects.unknown(key, "no job of this database has its id", owner_id=job_id, made_by=job_id)
            return
        state, current = rows.states[job_id]
        if attempt == current and state is State.RUNNING:
            return  # on its way
        if attempt == current and state is State.SUCCEEDED:
            yield from self._row_missing(job_id, key)
        elif attempt > current and not state.is_terminal:
            reason = f"the job has had {current} attempts; this database may be an older copy"
            yield from self._objects.unknown(key, reason, owner_id=job_id, made_by="")
        else:
            yield from self._objects.orphaned(key, f"of attempt {attempt}; no row points at it", owner_id=job_id)

    def _still_stored(self, row: Artifact) -> Iterator[Finding]:
        if object_exists(self._store, row.storage_key):  # retention may have deleted it since the store was listed
            yield Finding(
                Kind.ARTIFACT_STILL_STORED,
                f"{row.job_id}/{row.name}",
                f"the row says that it was deleted at {row.deleted_at:%Y-%m-%d %H:%M}, but {row.storage_key} exists",
                Action.CLEAR_DELETED,
                row.job_id,
                row.storage_key,
            )

    def _row_missing(self, job_id: str, key: str) -> Iterator[Finding]:
        found = self._objects.head(key)
        if found is None:
            return
        detail, action = "made by the successful attempt, but the artifact has no row", Action.RESTORE_ROW
        with self._db.reading() as tx:
            job = tx.session.get_one(Job, job_id)
        try:
            artifact_from_object(job, found)
        except NotDescribedError as exc:
            detail, action = f"{detail}; {exc}, so the row cannot be restored; the object is kept", Action.KEEP
        yield Finding(Kind.ARTIFACT_ROW_MISSING, key, detail, action, job_id, key)

    def _missing(self, part: OwnerRange) -> Iterator[Finding]:
        listed = part.keys
        for row in self._live_rows(part):
            self._examined[Population.ARTIFACTS] += 1
            # Looked for again: the object may be younger than the listing.
            if row.storage_key not in listed and not object_exists(self._store, row.storage_key):
                yield Finding(
                    Kind.ARTIFACT_MISSING,
                    f"{row.job_id}/{row.name}",
                    f"{row.storage_key} does not exist",
                    Action.MARK_DELETED,
                    row.job_id,
                    row.storage_key,
                )

    def _live_rows(self, part: OwnerRange) -> Iterator[Artifact]:
        """Return the rows whose object must exist; retention may be deleting those that have expired."""
        key, after = tuple_(Artifact.job_id, Artifact.name), ("", "")
        while True:
            with self._db.reading() as tx:
                query = select(Artifact).where(
                    part.contains(Artifact.job_id),
                    Artifact.deleted_at.is_(None),
                    or_(Artifact.expires_at.is_(None), Artifact.expires_at > tx.now),
                    key > after,
                )
                page = list(tx.session.scalars(query.order_by(Artifact.job_id, Artifact.name).limit(PAGE)))
            yield from page
            if len(page) < PAGE:
                return
            after = (page[-1].job_id, page[-1].name)

    def _empty_successes(self, part: OwnerRange) -> Iterator[Finding]:
        after, has_row = part.after, exists().where(Artifact.job_id == Job.id)
        while True:
            query = select(Job.id, Job.attempt).where(
                part.contains(Job.id), Job.id > after, Job.state == State.SUCCEEDED, Job.deleted_at.is_(None), ~has_row
            )
            with self._db.reading() as tx:
                page = list(tx.session.execute(query.order_by(Job.id).limit(PAGE)))
            for job_id, attempt in page:
                # Objects without rows are findings of their own.
                if not any(self._store.list_keys(f"jobs/{job_id}/{attempt}/")):
                    detail = f"succeeded, but neither rows nor objects of its artifacts exist; {RETRY_HINT}"
                    yield Finding(Kind.SUCCESS_WITHOUT_ARTIFACTS, job_id, detail, Action.KEEP, job_id)
            if len(page) < PAGE:
                return
            after = page[-1].id
