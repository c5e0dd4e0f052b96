"""How the content of an upload appears: whole, checked, and once.

Each write has a key of its own, below `uploads/<upload id>/`. One compare-and-set in SQL makes the upload `ready` and
lets its row point at the key of the write that was first. Every other write deletes its own object and nothing else.
What a write that broke off leaves is removed when the upload expires (`jobs.service.retention`): after that no write
can be published.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from typing import Any, BinaryIO

from sqlalchemy import update
from sqlalchemy.exc import DBAPIError

from jobs.db.database import Database, Transaction
from jobs.db.faults import was_rolled_back
from jobs.db.tables import Upload
from jobs.errors import UploadCompleteError, UploadExpiredError, UploadMismatchError
from jobs.ids import new_id
from jobs.service.expiry import gone_since
from jobs.storage.errors import ObjectChangedError, ObjectNotFoundError, StorageError
from jobs.storage.protocol import CHUNK_BYTES, ObjectMetadata, ObjectStore

log = logging.getLogger(__name__)

COPY_TRIES = 3


def objects_prefix(upload_id: str) -> str:
    """Return what the keys of all objects of an upload begin with."""
    return f"uploads/{upload_id}/"


def direct_key(upload_id: str) -> str:
    """Return the key to which a caller sends content directly; an upload points at it until it is `ready`."""
    return f"{objects_prefix(upload_id)}content"


def new_write_key(upload_id: str) -> str:
    """Return the key of one write, which no other write has."""
    return f"{objects_prefix(upload_id)}{new_id('wr')}"


def publish_write(
    db: Database, store: ObjectStore, upload: Upload, written: ObjectMetadata, *, measured: bool = False
) -> None:
    """Make an upload `ready` with the object of one write, or delete that object.

    Nothing happens when another write of the same bytes was first.

    Args:
        written: the object; its bytes match the announcement.
        measured: only the most bytes were announced; the upload gets the size and the hash of this object.

    Raises:
        UploadMismatchError: it has not the announced size.
        UploadCompleteError: another write, of other bytes, was first.
        UploadExpiredError: the upload expired meanwhile.
        DBAPIError: the database does not answer; whether the upload is `ready` is unknown.
    """
    if not measured and written.size_bytes != upload.size_bytes:
        discard(store, written.key)
        raise UploadMismatchError(
            f"Upload {upload.id} has {written.size_bytes} bytes, announced were {upload.size_bytes}; send it again."
        )
    try:
        facts = {"size_bytes": written.size_bytes, "sha256": written.sha256} if measured else {}
        current = db.run(lambda tx: _compare_and_set(tx, upload.id, written.key, facts), repeatable=True)
    except DBAPIError as exc:
        if was_rolled_back(exc):
            discard(store, written.key)
        raise  # otherwise the row may point at the object; if it does not, the object goes when the upload expires
    if current.storage_key == written.key:
        return
    is_same = current.checked_at is not None and _is_same_content(store, current, written)
    discard(store, written.key)
    if current.checked_at is None or current.deleted_at is not None:
        raise _expired(current)
    if not is_same:
        raise UploadCompleteError(f"Upload {upload.id} is already complete; announce another one.")


def _expired(upload: Upload) -> UploadExpiredError:
    """Return the error of an upload that was not accepted because it has expired or was deleted."""
    gone = gone_since(expires_at=upload.expires_at, deleted_at=upload.deleted_at, now=upload.expires_at)
    assert gone is not None, upload.id
    return UploadExpiredError(
        f"Upload {upload.id} {gone.clause}; announce the file again.",
        gone.reason,
        expired_at=gone.expired_at,
        deleted_at=gone.deleted_at,
    )


def _compare_and_set(tx: Transaction, upload_id: str, key: str, facts: Mapping[str, Any]) -> Upload:
    """Let a pending upload point at `key`, with the facts about it; return its row as it is then."""
    pending = (Upload.checked_at.is_(None), Upload.deleted_at.is_(None), Upload.expires_at > tx.now)
    tx.session.execute(
        update(Upload).where(Upload.id == upload_id, *pending).values(storage_key=key, checked_at=tx.now, **facts),
        execution_options={"synchronize_session": False},
    )
    return tx.session.get_one(Upload, upload_id, populate_existing=True)


def _is_same_content(store: ObjectStore, current: Upload, written: ObjectMetadata) -> bool:
    if current.sha256 is not None:
        return True  # both were compared with the announcement
    try:
        return written.sha256 is not None and store.head(current.storage_key).sha256 == written.sha256
    except StorageError:
        return False


def check_repeated(store: ObjectStore, upload: Upload, content: BinaryIO) -> None:
    """Accept content for an upload that is `ready` if it is what the upload has; store nothing.

    So a caller may send a file again whose answer was lost.

    Raises:
        UploadCompleteError: it is something else, or the store does not know the hash of what it has.
    """
    expected = upload.sha256 or store.head(upload.storage_key).sha256
    if expected is None or _sha256_of(content, upload.size_bytes) != expected:
        raise UploadCompleteError(f"Upload {upload.id} is already complete; announce another one.")


def _sha256_of(content: BinaryIO, max_bytes: int) -> str | None:
    digest, size_bytes = hashlib.sha256(), 0
    while chunk := content.read(CHUNK_BYTES):
        size_bytes += len(chunk)
        if size_bytes > max_bytes:
            return None
        digest.update(chunk)
    return digest.hexdigest()


def accept_direct_content(db: Database, store: ObjectStore, upload: Upload) -> None:
    """Make an upload `ready` whose content was sent directly to the store; nothing happens if it is already.

    The object is copied within the store, to a key that no form of a caller can write to, and the copy is checked:
    whatever is sent later changes nothing.

    Raises:
        ObjectNotFoundError: nothing was sent yet.
        UploadMismatchError: it is not what was announced.
        UploadExpiredError: the upload has expired.
    """
    for remaining in reversed(range(COPY_TRIES)):
        try:
            _copy_and_publish(db, store, upload)
        except UploadCompleteError:
            return
        except (ObjectNotFoundError, ObjectChangedError) as exc:
            # Another process may have accepted it and removed what was sent.
            if _is_ready(db, upload.id):
                return
            if isinstance(exc, ObjectNotFoundError) or not remaining:
                raise
        else:
            return


def _copy_and_publish(db: Database, store: ObjectStore, upload: Upload) -> None:
    sent = store.head(direct_key(upload.id))
    if sent.size_bytes != upload.size_bytes:
        _discard_version(store, sent)
        raise UploadMismatchError(
            f"Upload {upload.id} has {sent.size_bytes} bytes, announced were {upload.size_bytes}; send it again."
        )
    key = new_write_key(upload.id)
    copy = store.copy(sent.key, key, etag=sent.etag, content_type=upload.content_type, sha256=upload.sha256)
    if upload.sha256 is not None:
        found = copy.sha256 or sha256_of_object(store, key)
        if found != upload.sha256:
            discard(store, key)
            _discard_version(store, sent)
            raise UploadMismatchError(
                f"Upload {upload.id} has the SHA-256 {found}, announced was {upload.sha256}; send it again."
            )
    publish_write(db, store, upload, copy)
    discard(store, sent.key)


def sha256_of_object(store: ObjectStore, key: str) -> str:
    """Read an object and return its SHA-256.

    Raises:
        ObjectNotFoundError: no such object.
    """
    digest = hashlib.sha256()
    for chunk in store.open_read(key):
        digest.update(chunk)
    return digest.hexdigest()


def _is_ready(db: Database, upload_id: str) -> bool:
    with db.reading() as tx:
        return tx.session.get_one(Upload, upload_id).checked_at is not None


def _discard_version(store: ObjectStore, sent: ObjectMetadata) -> None:
    """Delete what was sent, unless something else has been sent since."""
    try:
        if store.head(sent.key).etag == sent.etag:
            store.delete([sent.key])
    except StorageError as exc:
        log.info("%s stays until its upload expires: %s", sent.key, exc)


def discard(store: ObjectStore, key: str) -> None:
    """Delete an object that no row points at. If that fails, it goes when its upload expires."""
    try:
        store.delete([key])
    except StorageError as exc:
        log.info("%s stays until its upload expires: %s", key, exc)
