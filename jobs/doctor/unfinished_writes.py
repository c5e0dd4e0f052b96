"""Finds writes to the object store that never finished."""

from __future__ import annotations

from collections.abc import Iterator

from jobs.db.database import Database
from jobs.db.tables import Job, Upload
from jobs.doctor.finding import Action, Finding, Kind
from jobs.doctor.listing import JOB_KEY, UPLOAD_KEY
from jobs.lifecycle import UploadState
from jobs.service.upload_parts import parts_key
from jobs.service.uploads import upload_state
from jobs.shared_features import PREFIX as FEATURES_PREFIX
from jobs.storage.protocol import ObjectStore, UnfinishedWrite

UNFINISHED_AFTER_S = 24 * 3600.0


def find_unfinished_writes(db: Database, store: ObjectStore) -> Iterator[Finding]:
    """Yield this platform's writes that began more than a day ago and never finished.

    Those of other platforms and programs in the same bucket are not its business, and are no findings.
    """
    for write in own_unfinished_writes(db, store):
        detail = f"begun {write.begun_at:%Y-%m-%d %H:%M}"
        yield Finding(Kind.WRITE_UNFINISHED, write.name, detail, Action.DISCARD_WRITE)


def own_unfinished_writes(db: Database, store: ObjectStore) -> Iterator[UnfinishedWrite]:
    """Yield what `find_unfinished_writes` reports, to discard it."""
    for write in store.unfinished_writes(older_than_s=UNFINISHED_AFTER_S):
        if write.key is None or (_is_own(db, write.key) and not _goes_on(db, write.key)):
            yield write


def _goes_on(db: Database, key: str) -> bool:
    """Return whether a key is of a resumable upload whose parts may still come."""
    match = UPLOAD_KEY.fullmatch(key)
    if match is None or key != parts_key(match["owner"]):
        return False
    with db.reading() as tx:
        upload = tx.session.get(Upload, match["owner"])
        return upload is not None and upload_state(upload, tx.now) is UploadState.PENDING


def _is_own(db: Database, key: str) -> bool:
    """Return whether a key is of a cached feature, or of a job or upload of this database."""
    for pattern, table in ((JOB_KEY, Job), (UPLOAD_KEY, Upload)):
        if match := pattern.fullmatch(key):
            with db.reading() as tx:
                return tx.session.get(table, match["owner"]) is not None
    return key.startswith(FEATURES_PREFIX)
