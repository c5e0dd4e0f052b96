"""Uploads: announced, stored, and checked once against the announcement."""

from __future__ import annotations

import contextlib
import io
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO

from jobs.db.database import Database, Transaction
from jobs.db.tables import Upload
from jobs.errors import (
    RequestInvalidError,
    UploadCompleteError,
    UploadExpiredError,
    UploadMismatchError,
    UploadNotFoundError,
)
from jobs.ids import new_id
from jobs.lifecycle import UploadState
from jobs.request import UPLOAD_ID, JobRequest
from jobs.service.expiry import gone_since
from jobs.storage.errors import ObjectNotFoundError, ObjectTooLargeError
from jobs.storage.protocol import ObjectStore


def announce_upload(
    tx: Transaction,
    *,
    tenant: str,
    filename: str,
    content_type: str,
    size_bytes: int,
    sha256: str | None,
    ttl_s: int,
    max_bytes: int | None = None,
) -> Upload:
    """Record that a file of `size_bytes` will be uploaded. Its storage key holds no part of the caller's file name.

    Raises:
        ObjectTooLargeError: `size_bytes` exceeds `max_bytes`.
    """
    if max_bytes is not None and size_bytes > max_bytes:
        raise ObjectTooLargeError(f"The file has {size_bytes} bytes, at most {max_bytes} are allowed.", "upload")
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
        UploadNotFoundError: the tenant has none of this id.
    """
    upload = tx.session.get(Upload, upload_id)
    if upload is None or upload.tenant != tenant:
        raise UploadNotFoundError(f"There is no upload {upload_id}.")
    return upload


def upload_state(upload: Upload, now: datetime) -> UploadState:
    """Return the state of an upload at `now`."""
    if upload.deleted_at is not None or upload.expires_at <= now:
        return UploadState.EXPIRED
    return UploadState.PENDING if upload.checked_at is None else UploadState.READY


def store_upload(
    db: Database,
    store: ObjectStore,
    source: Path | bytes,
    *,
    tenant: str,
    filename: str,
    content_type: str,
    ttl_s: int,
) -> str:
    """Announce, store and mark a file that this process has; return the upload's id.

    Raises:
        StorageError: the object could not be stored; the announced upload expires by itself.
    """
    size_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
    with db.transaction() as tx:
        upload = announce_upload(
            tx,
            tenant=tenant,
            filename=filename,
            content_type=content_type,
            size_bytes=size_bytes,
            sha256=None,
            ttl_s=ttl_s,
        )
    if isinstance(source, bytes):
        store.put_stream(upload.storage_key, io.BytesIO(source), content_type=content_type, max_bytes=size_bytes)
    else:
        store.put_file(upload.storage_key, source, content_type=content_type)
    with db.transaction() as tx:
        mark_upload_checked(tx, upload.id)
    return upload.id


def check_accepts_content(upload: Upload, now: datetime, size_bytes: int | None) -> None:
    """Check that content of `size_bytes` (None: unknown) may be sent for an upload.

    Raises:
        UploadExpiredError: it has expired.
        UploadCompleteError: it already has its content.
        ObjectTooLargeError: the content is larger than announced.
    """
    state = upload_state(upload, now)
    gone = gone_since(expires_at=upload.expires_at, deleted_at=upload.deleted_at, now=now)
    if gone is not None:
        raise UploadExpiredError(
            f"Upload {upload.id} {gone.clause}; announce the file again.",
            gone.reason,
            expired_at=gone.expired_at,
            deleted_at=gone.deleted_at,
        )
    if state is UploadState.READY:
        raise UploadCompleteError(f"Upload {upload.id} is already complete; announce another one.")
    if size_bytes is not None and size_bytes > upload.size_bytes:
        raise ObjectTooLargeError(f"Got {size_bytes} bytes; announced were {upload.size_bytes}.", "upload")


def receive_content(db: Database, store: ObjectStore, upload: Upload, content: BinaryIO) -> None:
    """Store the content of an upload and mark it checked.

    Raises:
        ObjectTooLargeError, ChecksumMismatchError: not the announced bytes; nothing is kept.
        UploadMismatchError: fewer bytes than announced; nothing is kept.
    """
    stored = store.put_stream(
        upload.storage_key,
        content,
        content_type=upload.content_type,
        max_bytes=upload.size_bytes,
        sha256=upload.sha256,
    )
    _accept(db, store, upload, stored.size_bytes)


def refresh_upload(db: Database, store: ObjectStore, upload: Upload, now: datetime) -> None:
    """Mark an upload checked if its content has been sent directly to the store; leave it pending otherwise."""
    if upload_state(upload, now) is UploadState.PENDING:
        with contextlib.suppress(ObjectNotFoundError, UploadMismatchError):
            _accept(db, store, upload, store.head(upload.storage_key).size_bytes)
            upload.checked_at = now


def check_upload(db: Database, store: ObjectStore, request: JobRequest, *, tenant: str) -> None:
    """Check that the upload a request names, if any, is complete.

    Raises:
        RequestInvalidError: it is not; names the field.
    """
    source = request.source
    if source is None or not UPLOAD_ID.fullmatch(source):
        return
    field = "video" if request.video is not None else "image"
    try:
        with db.reading() as tx:
            upload = get_upload(tx, source, tenant=tenant)
        if upload.checked_at is None and upload.deleted_at is None:
            _accept(db, store, upload, store.head(upload.storage_key).size_bytes)
    except UploadNotFoundError as exc:
        raise RequestInvalidError.of(field, f"there is no upload {source}") from exc
    except ObjectNotFoundError as exc:
        raise RequestInvalidError.of(field, f"upload {source} has no content yet; send the file first") from exc
    except UploadMismatchError as exc:
        raise RequestInvalidError.of(field, exc.message) from exc


def _accept(db: Database, store: ObjectStore, upload: Upload, size_bytes: int) -> None:
    """Mark an upload checked if its stored object has the announced size; delete the object otherwise."""
    if size_bytes != upload.size_bytes:
        store.delete([upload.storage_key])
        raise UploadMismatchError(
            f"Upload {upload.id} has {size_bytes} bytes, announced were {upload.size_bytes}; send it again."
        )
    db.run(lambda tx: mark_upload_checked(tx, upload.id), repeatable=True)


def mark_upload_checked(tx: Transaction, upload_id: str) -> None:
    """Record that the stored bytes match the announcement (size, and SHA-256 where announced)."""
    upload = tx.session.get_one(Upload, upload_id)
    if upload.checked_at is None:
        upload.checked_at = tx.now


def mark_upload_missing(tx: Transaction, upload_id: str) -> None:
    """Mark an upload whose stored object no longer exists, so requests that name it are refused."""
    upload = tx.session.get_one(Upload, upload_id)
    if upload.deleted_at is None:
        upload.deleted_at = tx.now


def unmark_upload_missing(tx: Transaction, upload_id: str) -> None:
    """Remove the mark of an upload whose stored object exists; retention deletes it once it has expired."""
    tx.session.get_one(Upload, upload_id).deleted_at = None
