"""Uploads: announced, stored, and checked once against the announcement. `upload_content` publishes what was stored."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import select

from jobs.db.database import Database, Transaction
from jobs.db.tables import Upload
from jobs.errors import (
    GoneReason,
    RequestInvalidError,
    UploadBusyError,
    UploadCompleteError,
    UploadDeletedError,
    UploadExpiredError,
    UploadIncompleteError,
    UploadMismatchError,
    UploadNotFoundError,
)
from jobs.ids import new_id
from jobs.lifecycle import UploadState
from jobs.request import UPLOAD_ID, JobRequest
from jobs.service.expiry import gone_since
from jobs.service.tenant_limits import check_upload_bytes
from jobs.service.upload_content import (
    accept_direct_content,
    check_repeated,
    direct_key,
    new_write_key,
    publish_write,
)
from jobs.service.upload_parts import complete_parts, part_bytes_for
from jobs.storage.errors import ObjectNotFoundError, ObjectTooLargeError
from jobs.storage.protocol import ObjectStore

READ_AT_ONCE = 500

RunCheck = Callable[[str, Callable[[], None]], None]
"""Runs the check of an upload, given its id."""


def announce_upload(
    tx: Transaction,
    *,
    filename: str,
    content_type: str,
    size_bytes: int,
    sha256: str | None,
    ttl_s: int,
    max_bytes: int | None = None,
    max_held_bytes: int = 0,
    part_bytes: int | None = None,
) -> Upload:
    """Record that a file of `size_bytes` will be uploaded. Its storage key holds no part of the caller's file name.

    Args:
        max_held_bytes: bytes of all the tenant's uploads; 0: no limit.
        part_bytes: of each part but the last, of a resumable upload.

    Raises:
        ObjectTooLargeError: `size_bytes` exceeds `max_bytes`.
        UploadNeverFitsError, UploadStorageFullError: as `check_upload_bytes`.
    """
    if max_bytes is not None and size_bytes > max_bytes:
        raise ObjectTooLargeError(f"The file has {size_bytes} bytes, at most {max_bytes} are allowed.", "upload")
    check_upload_bytes(tx, size_bytes, max_held_bytes)
    upload_id = new_id("upl")
    upload = Upload(
        id=upload_id,
        tenant=tx.tenant,
        filename=filename,
        content_type=content_type,
        size_bytes=size_bytes,
        sha256=sha256,
        storage_key=direct_key(upload_id),
        part_bytes=part_bytes_for(size_bytes, part_bytes) if part_bytes is not None else None,
        created_at=tx.now,
        expires_at=tx.now + timedelta(seconds=ttl_s),
    )
    tx.session.add(upload)
    tx.session.flush()
    return upload


def get_upload(tx: Transaction, upload_id: str) -> Upload:
    """Return the tenant's upload.

    Raises:
        UploadNotFoundError: the tenant has none of this id.
        UploadDeletedError: it was deleted.
    """
    upload = tx.session.get(Upload, upload_id)
    if upload is None:
        raise UploadNotFoundError(f"There is no upload {upload_id}.")
    if upload.delete_requested_at is not None:
        raise UploadDeletedError(
            f"Upload {upload_id} was deleted; announce the file again.",
            GoneReason.DELETED,
            deleted_at=upload.delete_requested_at,
        )
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
    filename: str,
    content_type: str,
    ttl_s: int,
    max_held_bytes: int = 0,
) -> str:
    """Announce, store and mark a file that this process has; return the upload's id.

    Args:
        max_held_bytes: see `announce_upload`.

    Raises:
        UploadNeverFitsError, UploadStorageFullError: as `check_upload_bytes`.
        UploadMismatchError: the file grew or shrank meanwhile; nothing is kept.
        StorageError: the object could not be stored; the announced upload expires by itself.
    """
    size_bytes = len(source) if isinstance(source, bytes) else source.stat().st_size
    with db.transaction() as tx:
        upload = announce_upload(
            tx,
            filename=filename,
            content_type=content_type,
            size_bytes=size_bytes,
            sha256=None,
            ttl_s=ttl_s,
            max_held_bytes=max_held_bytes,
        )
    key = new_write_key(upload.id)
    if isinstance(source, bytes):
        written = store.put_stream(key, io.BytesIO(source), content_type=content_type, max_bytes=size_bytes)
    else:
        written = store.put_file(key, source, content_type=content_type)
    publish_write(db, store, upload, written)
    return upload.id


def check_not_expired(upload: Upload, now: datetime) -> None:
    """Check that an upload can still be used.

    Raises:
        UploadExpiredError: it has expired.
    """
    gone = gone_since(expires_at=upload.expires_at, deleted_at=upload.deleted_at, now=now)
    if gone is not None:
        raise UploadExpiredError(
            f"Upload {upload.id} {gone.clause}; announce the file again.",
            gone.reason,
            expired_at=gone.expired_at,
            deleted_at=gone.deleted_at,
        )


def check_accepts_content(upload: Upload, now: datetime, size_bytes: int | None) -> None:
    """Check that content of `size_bytes` (None: unknown) may be sent for an upload.

    Raises:
        UploadExpiredError: it has expired.
        UploadCompleteError: it already has its content.
        ObjectTooLargeError: the content is larger than announced.
    """
    check_not_expired(upload, now)
    if upload_state(upload, now) is UploadState.READY:
        raise UploadCompleteError(f"Upload {upload.id} is already complete; announce another one.")
    if size_bytes is not None and size_bytes > upload.size_bytes:
        raise ObjectTooLargeError(f"Got {size_bytes} bytes; announced were {upload.size_bytes}.", "upload")


def receive_content(db: Database, store: ObjectStore, upload: Upload, content: BinaryIO) -> None:
    """Store the content of an upload and make it `ready`.

    Nothing changes when the same bytes have made it `ready` before.

    Raises:
        ObjectTooLargeError, ChecksumMismatchError, UploadMismatchError: not the announced bytes; nothing is kept.
        UploadCompleteError: it has other content by now.
        UploadExpiredError: it expired before all bytes had come.
    """
    if upload.checked_at is not None:
        check_repeated(store, upload, content)
        return
    written = store.put_stream(
        new_write_key(upload.id),
        content,
        content_type=upload.content_type,
        max_bytes=upload.size_bytes,
        sha256=upload.sha256,
    )
    publish_write(db, store, upload, written)


def refresh_upload(db: Database, store: ObjectStore, upload: Upload, now: datetime) -> None:
    """Make an upload `ready` if its content has been sent directly to the store; leave it pending otherwise."""
    if upload_state(upload, now) is UploadState.PENDING:
        with contextlib.suppress(ObjectNotFoundError, UploadMismatchError, UploadExpiredError):
            accept_direct_content(db, store, upload)
            upload.checked_at = now


def check_upload(db: Database, store: ObjectStore, request: JobRequest, *, run: RunCheck | None = None) -> None:
    """Check that the upload a request names, if any, is complete.

    Args:
        run: runs the check of content that was sent directly to the store, which may take long.

    Raises:
        RequestInvalidError: it is not; names the field.
    """
    source = request.source
    if source is None or not UPLOAD_ID.fullmatch(source):
        return
    field = "video" if request.video is not None else "image"
    try:
        with db.reading() as tx:
            upload, now = get_upload(tx, source), tx.now
        if upload_state(upload, now) is UploadState.PENDING:
            accept = accept_direct_content if upload.part_bytes is None else complete_parts
            check = partial(accept, db, store, upload)
            check() if run is None else run(upload.id, check)
    except UploadNotFoundError as exc:
        raise RequestInvalidError.of(field, f"there is no upload {source}") from exc
    except ObjectNotFoundError as exc:
        raise RequestInvalidError.of(field, f"upload {source} has no content yet; send the file first") from exc
    except (
        UploadMismatchError,
        UploadExpiredError,
        UploadDeletedError,
        UploadIncompleteError,
        UploadBusyError,
    ) as exc:
        raise RequestInvalidError.of(field, exc.message) from exc


def pending_uploads(tx: Transaction, upload_ids: Sequence[str]) -> list[str]:
    """Return those of the tenant's uploads that wait for their content."""
    pending: list[str] = []
    for first in range(0, len(upload_ids), READ_AT_ONCE):
        query = select(Upload.id).where(
            Upload.id.in_(upload_ids[first : first + READ_AT_ONCE]),
            Upload.checked_at.is_(None),
            Upload.expires_at > tx.now,
        )
        pending += tx.session.scalars(query)
    return pending


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
