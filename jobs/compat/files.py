"""Uploads as files of hosted services: sent in one call, listed, shown, deleted."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO

from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from jobs.compat.replicate_prediction import file_url
from jobs.compat.result_links import shown_time
from jobs.cursor import place_of
from jobs.db.database import Database, Transaction
from jobs.db.tables import Upload
from jobs.errors import ContentGoneError, LimitReachedError, RequestInvalidError, UploadNotFoundError
from jobs.lifecycle import UploadState
from jobs.request import UPLOAD_ID
from jobs.service.deletion import delete_upload
from jobs.service.queries import ID_CLOCK_SKEW_MS
from jobs.service.tenant_limits import check_upload_bytes
from jobs.service.upload_content import discard, new_write_key, publish_write
from jobs.service.uploads import announce_upload, get_upload, upload_state
from jobs.storage.protocol import ObjectStore

MAX_NAME_CHARS = 255
MAX_TYPE_CHARS = 120
DEFAULT_TYPE = "application/octet-stream"


@dataclass(frozen=True)
class FilePage:
    """Files, newest first, and the cursor of the next page (None: this is the last page)."""

    files: list[Upload]
    next_cursor: str | None


def announce_file(
    db: Database,
    *,
    filename: str,
    content_type: str,
    ttl_s: int,
    most_bytes: int,
    least_bytes: int = 1,
    max_held_bytes: int = 0,
) -> Upload:
    """Record that a file comes whose size is not known exactly; `receive_file` finds it out.

    Args:
        db: bound to the tenant.
        most_bytes: that the file may have.
        least_bytes: that it has, by what its sender announces.
        max_held_bytes: bytes of all the tenant's uploads; 0: no limit.

    Raises:
        UploadNeverFitsError, UploadStorageFullError: as `check_upload_bytes`, for `least_bytes`.
    """
    with db.transaction() as tx:
        check_upload_bytes(tx, least_bytes, max_held_bytes)
        return announce_upload(
            tx,
            filename=_storable_name(filename),
            content_type=content_type,
            size_bytes=most_bytes,
            sha256=None,
            ttl_s=ttl_s,
        )


def receive_file(
    db: Database,
    store: ObjectStore,
    upload: Upload,
    content: BinaryIO,
    *,
    most_bytes: int,
    max_held_bytes: int = 0,
    once: bool = True,
) -> None:
    """Store the content of an announced file and make its upload `ready`; only now its size is known.

    Args:
        max_held_bytes: bytes of all the tenant's uploads; 0: no limit.
        once: nobody knows the upload yet, so it is deleted when the content does not arrive whole.

    Raises:
        RequestInvalidError: it is empty.
        UploadNeverFitsError, UploadStorageFullError: as `check_upload_bytes`; the content is not kept.
        ObjectTooLargeError: it has more than `most_bytes`.
        UploadExpiredError: it took longer than uploads are kept.
        UploadCompleteError: other content has come meanwhile.
    """
    try:
        _store_content(db, store, upload, content, most_bytes, max_held_bytes)
    except Exception:
        if once:
            with contextlib.suppress(SQLAlchemyError):  # it expires by itself
                db.run(lambda tx: delete_upload(tx, upload.id), repeatable=True)
        raise


def _store_content(
    db: Database, store: ObjectStore, upload: Upload, content: BinaryIO, most_bytes: int, max_held_bytes: int
) -> None:
    key = new_write_key(upload.id)
    written = store.put_stream(key, content, content_type=upload.content_type, max_bytes=most_bytes)
    if written.size_bytes == 0:
        discard(store, key)
        raise RequestInvalidError.of("content", "the file is empty")
    try:
        with db.reading() as tx:
            check_upload_bytes(tx, written.size_bytes, max_held_bytes, counted_bytes=upload.size_bytes)
    except LimitReachedError:
        discard(store, key)
        raise
    publish_write(db, store, upload, written, measured=True)


def _storable_name(filename: str) -> str:
    """Return a file's name as databases can store it; `file` where it has none."""
    kept = filename.replace("\x00", "").encode("utf-8", "replace").decode()[:MAX_NAME_CHARS]
    return kept or "file"


def get_file(tx: Transaction, file_id: str) -> Upload:
    """Return the tenant's file.

    Raises:
        UploadNotFoundError: the tenant has none of this id, or it has expired or has no content.
    """
    with contextlib.suppress(ContentGoneError):
        upload = get_upload(tx, file_id)
        if upload_state(upload, tx.now) is UploadState.READY:
            return upload
    raise UploadNotFoundError(f"There is no file {file_id}.")


def list_files(tx: Transaction, *, cursor: str | None, limit: int, ttl_s: int) -> FilePage:
    """Return one page of the tenant's files, by keyset.

    Args:
        ttl_s: how long uploads are kept, at most.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    query = select(Upload).where(
        # Ids begin with their creation time, by the clock of the host that made them: this bounds the scan.
        Upload.id > f"upl_{max(0, round((tx.now.timestamp() - ttl_s) * 1000) - ID_CLOCK_SKEW_MS):012x}",
        Upload.checked_at.is_not(None),
        Upload.deleted_at.is_(None),
        Upload.expires_at > tx.now,
    )
    if cursor is not None:
        query = query.where(Upload.id < place_of(cursor, UPLOAD_ID))
    rows = list(tx.session.scalars(query.order_by(Upload.id.desc()).limit(limit + 1)))
    return FilePage(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def file_document(upload: Upload, base: str) -> dict[str, Any]:
    """Return an upload as a file of Replicate's HTTP API. Its `metadata` is empty: uploads have none."""
    return {
        "id": upload.id,
        "name": upload.filename,
        "content_type": upload.content_type,
        "size": upload.size_bytes,
        "etag": upload.sha256 or upload.id,
        "checksums": {"sha256": upload.sha256} if upload.sha256 is not None else {},
        "metadata": {},
        "created_at": _shown(upload.created_at),
        "expires_at": _shown(upload.expires_at),
        "urls": {"get": file_url(base, upload.id)},
    }


def _shown(time: datetime) -> str:
    return str(shown_time(time))
