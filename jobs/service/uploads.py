"""Uploads: announced, filled by the caller, checked once against what was announced."""

from __future__ import annotations

from datetime import timedelta

from jobs.db.database import Transaction
from jobs.db.tables import Upload
from jobs.errors import UploadNotFoundError
from jobs.ids import new_id


def announce_upload(
    tx: Transaction,
    *,
    tenant: str,
    filename: str,
    content_type: str,
    size_bytes: int,
    sha256: str | None,
    ttl_s: int,
) -> Upload:
    """Write down that a file of `size_bytes` will come. Its storage key holds no part of the caller's file name."""
    upload_id = new_id("upl")
    upload = Upload(
        id=upload_id,
        tenant=tenant,
        filename=filename,
        content_type=content_type,
        size_bytes=size_bytes,
        sha256=sha256,
        storage_key=f"uploads/{upload_id}/content",
        created_at=tx.now,
        expires_at=tx.now + timedelta(seconds=ttl_s),
    )
    tx.session.add(upload)
    tx.session.flush()
    return upload


def get_upload(tx: Transaction, upload_id: str, *, tenant: str) -> Upload:
    """Return the tenant's upload.

    Raises:
        UploadNotFoundError: the tenant has none of that id.
    """
    upload = tx.session.get(Upload, upload_id)
    if upload is None or upload.tenant != tenant:
        raise UploadNotFoundError(f"There is no upload {upload_id}.")
    return upload


def mark_upload_checked(tx: Transaction, upload_id: str) -> None:
    """Note that the stored bytes were seen to be what was announced (size, and SHA-256 where given)."""
    upload = tx.session.get_one(Upload, upload_id)
    if upload.checked_at is None:
        upload.checked_at = tx.now


def mark_upload_missing(tx: Transaction, upload_id: str) -> None:
    """Mark an upload whose stored object no longer exists, so requests that name it are refused."""
    upload = tx.session.get_one(Upload, upload_id)
    if upload.deleted_at is None:
        upload.deleted_at = tx.now
