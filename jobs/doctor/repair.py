"""Makes repairs, one finding at a time. Each looks again first, because the platform works on, and each is audited."""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import select

from jobs.db.database import Database, Transaction
from jobs.db.tables import Artifact, Job, Upload
from jobs.doctor.finding import Action, Finding, Kind
from jobs.doctor.listing import JOB_KEY
from jobs.doctor.survey import PART_FAILED, reason_of
from jobs.doctor.unfinished_writes import own_unfinished_writes
from jobs.lifecycle import State
from jobs.service.artifact_metadata import NotDescribedError, artifact_from_object
from jobs.service.artifacts import mark_artifact_missing, restore_artifact, unmark_artifact_missing
from jobs.service.audit import begin_audited, end_audited
from jobs.service.maintenance import rescue_expired_leases
from jobs.service.scheduling.dispatch import Publisher, republish_lost
from jobs.service.scheduling.selection import DispatchPolicy
from jobs.service.uploads import mark_upload_missing, unmark_upload_missing
from jobs.storage.errors import ObjectNotFoundError
from jobs.storage.identity import check_identity
from jobs.storage.presence import object_exists
from jobs.storage.protocol import ObjectStore, UnfinishedWrite

ACTOR = "doctor"


class Repairer:
    """Repairs findings.

    Args:
        policy: the limits and the ageing of dispatch, as the platform's own processes have them.

    Raises (all methods):
        StorageError, SQLAlchemyError, BrokerUnavailableError: a part does not answer any more, or the store is no
            longer that of the database.
    """

    def __init__(self, db: Database, store: ObjectStore, publisher: Publisher, *, policy: DispatchPolicy) -> None:
        self._db, self._store, self._publisher, self._policy = db, store, publisher, policy
        self._unfinished: dict[str, list[UnfinishedWrite]] | None = None
        self._republished = self._rescued = False
        self._repairs: dict[Action, Callable[[Finding], bool]] = {
            Action.MARK_DELETED: self._mark_deleted,
            Action.CLEAR_DELETED: self._clear_deleted,
            Action.RESTORE_ROW: self._restore_row,
            Action.DELETE_OBJECT: self._delete_object,
            Action.REPUBLISH: self._republish,
            Action.RESCUE: self._rescue,
            Action.DISCARD_WRITE: self._discard_write,
        }

    def repair(self, finding: Finding) -> bool:
        """Repair a finding; return False when there is nothing to repair any more. Sets `finding.fixed`."""
        if finding.key or finding.action is Action.DISCARD_WRITE:
            check_identity(self._db, self._store)  # a volume may have been unmounted since the check
        detail = {"kind": str(finding.kind), "reason": finding.detail}
        event_id = self._db.run(
            lambda tx: begin_audited(
                tx, actor=ACTOR, action=str(finding.action), subject=finding.subject, detail=detail
            ),
            repeatable=False,
        )
        try:
            needed = self._repairs[finding.action](finding)
        except PART_FAILED as exc:
            self._end(event_id, "failed", error=reason_of(exc))
            raise
        self._end(event_id, "fixed" if needed else "unneeded")
        finding.fixed = True
        return needed

    def _end(self, event_id: int, outcome: str, **more: str) -> None:
        self._db.run(lambda tx: end_audited(tx, event_id, outcome, **more), repeatable=True)

    def _mark_deleted(self, finding: Finding) -> bool:
        if object_exists(self._store, finding.key):
            return False
        if finding.kind is Kind.UPLOAD_MISSING:
            self._db.run(lambda tx: mark_upload_missing(tx, finding.owner_id), repeatable=True)
        else:
            name = _name(finding)
            self._db.run(lambda tx: mark_artifact_missing(tx, finding.owner_id, name), repeatable=True)
        return True

    def _clear_deleted(self, finding: Finding) -> bool:
        if not object_exists(self._store, finding.key):
            return False
        if finding.kind is Kind.UPLOAD_STILL_STORED:
            self._db.run(lambda tx: unmark_upload_missing(tx, finding.owner_id), repeatable=True)
        else:
            name = _name(finding)
            self._db.run(lambda tx: unmark_artifact_missing(tx, finding.owner_id, name), repeatable=True)
        return True

    def _restore_row(self, finding: Finding) -> bool:
        try:
            found = self._store.head(finding.key)
        except ObjectNotFoundError:
            return False

        def restore(tx: Transaction) -> bool:
            job = tx.session.get(Job, finding.owner_id)
            return job is not None and restore_artifact(tx, artifact_from_object(job, found))

        try:
            return self._db.run(restore, repeatable=True)
        except NotDescribedError:
            return False  # replaced since the check

    def _delete_object(self, finding: Finding) -> bool:
        if not self._db.run_reading(lambda tx: _may_be_deleted(tx, finding)):
            return False
        self._store.delete([finding.key])
        return True

    def _republish(self, finding: Finding) -> bool:  # noqa: ARG002 - one call finds all of them
        if not self._republished:
            republish_lost(self._db, self._publisher, policy=self._policy)
            self._republished = True
        return True

    def _rescue(self, finding: Finding) -> bool:  # noqa: ARG002 - one call finds all of them
        if not self._rescued:
            rescue_expired_leases(self._db)
            self._rescued = True
        return True

    def _discard_write(self, finding: Finding) -> bool:
        if self._unfinished is None:
            self._unfinished = {}
            for write in own_unfinished_writes(self._db, self._store):
                self._unfinished.setdefault(write.name, []).append(write)
        writes = self._unfinished.get(finding.subject, [])
        if writes:
            writes.pop().discard()
            return True
        return False


def _name(finding: Finding) -> str:
    return finding.subject.removeprefix(f"{finding.owner_id}/")


def _may_be_deleted(tx: Transaction, finding: Finding) -> bool:
    """Look once more whether no row points at an object, and no successful or running attempt made it."""
    row = select(Artifact.name).where(Artifact.job_id == finding.owner_id, Artifact.storage_key == finding.key)
    if tx.session.scalar(row) is not None:
        return False
    match, job = JOB_KEY.fullmatch(finding.key), tx.session.get(Job, finding.owner_id)
    if finding.kind is Kind.OBJECT_UNKNOWN:
        return job is None and tx.session.get(Upload, finding.owner_id) is None
    if match is None or job is None:
        return False
    attempt = int(match["attempt"])
    if job.state in {State.RUNNING, State.SUCCEEDED} and attempt == job.attempt:
        return False
    return job.state.is_terminal or attempt <= job.attempt
