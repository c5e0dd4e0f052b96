"""What becomes of a row whose object is gone: it says so, and callers get an answer instead of a riddle."""

from __future__ import annotations

from jobs.db.database import Transaction
from jobs.db.tables import Artifact, Upload


def mark_artifact_absent(tx: Transaction, job_id: str, name: str) -> None:
    """Note that an artifact's object is not there any more: its job stays, and says that the file has expired."""
    artifact = tx.session.get_one(Artifact, (job_id, name))
    if artifact.deleted_at is None:
        artifact.deleted_at = tx.now


def mark_upload_absent(tx: Transaction, upload_id: str) -> None:
    """Note that an upload's object is not there any more: a request that names it is told to send the file again."""
    upload = tx.session.get_one(Upload, upload_id)
    if upload.deleted_at is None:
        upload.deleted_at = tx.now
