"""Resumable uploads: which parts are there, which are missing, and how all of them become the content.

On a bucket callers send numbered parts directly to the store; on a folder the bytes come in order through the API. An
upload is `ready` only after its whole content was compared with the announcement (`upload_content.publish_write`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import BinaryIO

from sqlalchemy import update

from jobs.db.database import Database, Transaction
from jobs.db.tables import Upload
from jobs.errors import (
    UploadBusyError,
    UploadCompleteError,
    UploadIncompleteError,
    UploadMismatchError,
    UploadNotResumableError,
    UploadOffsetError,
)
from jobs.service.upload_content import discard, objects_prefix, publish_write, sha256_of_object
from jobs.settings import MIB
from jobs.storage.errors import (
    ChecksumMismatchError,
    ObjectNotFoundError,
    OffsetMismatchError,
    WriteBusyError,
    WriteUnknownError,
)
from jobs.storage.protocol import ObjectMetadata, ObjectStore
from jobs.storage.resuming import PartWrites, RangeWrites, StoredPart

# A bucket takes 10,000 parts.
_MOST_PARTS = 9000
_COMPARED_BYTES = MIB


@dataclass(frozen=True)
class Part:
    """Bytes from `start` to before `end`, as part `number`."""

    number: int
    start: int
    end: int


@dataclass(frozen=True)
class UploadParts:
    """What is there of a resumable upload.

    Attributes:
        received: numbers of the parts that are whole.
        received_bytes: in all; with `in_order` also those of a part that is not whole.
        missing: in order; with `in_order` the first one begins where the bytes end.
        in_order: each part can only be sent when the ones before are there.
    """

    part_count: int
    received: list[int]
    received_bytes: int
    missing: list[Part]
    in_order: bool


def part_bytes_for(size_bytes: int, wanted: int) -> int:
    """Return the size of the parts of a file: as wanted, or as much more as the most parts require."""
    if size_bytes <= wanted * _MOST_PARTS:
        return wanted
    return math.ceil(size_bytes / _MOST_PARTS / MIB) * MIB


def parts_key(upload_id: str) -> str:
    """Return the key of the object that the parts of an upload become; no other write of it has this key."""
    return f"{objects_prefix(upload_id)}wr_{upload_id.removeprefix('upl_')}"


def find_parts(db: Database, store: ObjectStore, upload: Upload, *, begin: bool = True) -> UploadParts:
    """Return what is there of a resumable upload.

    Args:
        begin: begin its write in the bucket if nobody has; `part_url` needs one.

    Raises:
        UploadNotResumableError: it was announced as one whole.
    """
    if upload.part_bytes is None:
        raise UploadNotResumableError(
            f"Upload {upload.id} was not announced as resumable; send its content in one call, or announce it with "
            '"resumable": true.'
        )
    grid = _grid(upload.size_bytes, upload.part_bytes)
    if upload.checked_at is not None:
        return UploadParts(len(grid), [part.number for part in grid], upload.size_bytes, [], in_order=False)
    if store.part_writes is not None:
        stored = _stored_parts(db, store.part_writes, upload) if begin or upload.write_id is not None else []
        whole = {part.number for part in _whole_parts(upload, stored)}
        received_bytes = sum(part.end - part.start for part in grid if part.number in whole)
        missing = [part for part in grid if part.number not in whole]
        return UploadParts(len(grid), sorted(whole), received_bytes, missing, in_order=False)
    there = _ranges(store).received_bytes(parts_key(upload.id))
    missing = [replace(part, start=max(part.start, there)) for part in grid if part.end > there]
    received = [part.number for part in grid if part.end <= there]
    return UploadParts(len(grid), received, there, missing, in_order=True)


def received_bytes(store: ObjectStore, upload: Upload) -> int:
    """Return how many bytes of an upload have come through the API.

    Raises:
        UploadNotResumableError: the store takes parts directly.
    """
    return upload.size_bytes if upload.checked_at is not None else _ranges(store).received_bytes(parts_key(upload.id))


def part_url(store: ObjectStore, upload: Upload, part: Part, *, expires_s: int) -> str | None:
    """Return the signed URL of a missing part in the bucket; None: it is sent to the API."""
    if store.part_writes is None:
        return None
    assert upload.write_id is not None, upload.id
    size_bytes = part.end - part.start
    return store.part_writes.part_url(
        parts_key(upload.id), upload.write_id, part.number, size_bytes=size_bytes, expires_s=expires_s
    )


def receive_range(db: Database, store: ObjectStore, upload: Upload, content: BinaryIO, *, start: int, end: int) -> int:
    """Add the bytes from `start` to before `end`, and return how many are there; with all the upload is `ready`.

    Raises:
        UploadOffsetError: bytes before `start` are missing, or there are some from there on.
        UploadBusyError: another call sends bytes of this upload.
        UploadMismatchError: the whole content is not what was announced; nothing is kept.
        UploadCompleteError: it has other bytes there.
        UploadNotResumableError: the store takes parts directly.
    """
    writes, key = _ranges(store), parts_key(upload.id)
    if upload.checked_at is not None:
        _compare_range(store, upload, content, start, end)
        return upload.size_bytes
    try:
        there = writes.append(key, content, offset=start, max_bytes=end - start)
    except OffsetMismatchError as exc:
        raise UploadOffsetError(
            f"Upload {upload.id} has {exc.present} bytes; got bytes from {start} on. Send those from {exc.present} on.",
            exc.present,
        ) from exc
    except WriteBusyError as exc:
        raise _busy(upload) from exc
    if there == upload.size_bytes:
        complete_parts(db, store, upload)
    return there


def complete_parts(db: Database, store: ObjectStore, upload: Upload) -> None:
    """Make a resumable upload `ready` with its parts; nothing happens if it is already.

    Raises:
        UploadNotResumableError: it was announced as one whole, and no part of it has come.
        UploadIncompleteError: parts are missing.
        UploadMismatchError: the whole content is not what was announced; nothing is kept.
        UploadBusyError: another call sends bytes of this upload.
        UploadExpiredError: it has expired.
    """
    if upload.checked_at is not None:
        return
    if store.part_writes is not None:
        written = _finish_parts(db, store, store.part_writes, upload)
    else:
        written = _finish_ranges(_ranges(store), upload)
    publish_write(db, store, upload, written)
    if store.range_writes is not None:
        store.range_writes.discard(parts_key(upload.id))


def discard_parts(store: ObjectStore, upload: Upload) -> None:
    """Delete the parts of an upload that did not become its content."""
    if store.range_writes is not None:
        store.range_writes.discard(parts_key(upload.id))
    if store.part_writes is not None and upload.write_id is not None:
        store.part_writes.discard(parts_key(upload.id), upload.write_id)


def _grid(size_bytes: int, part_bytes: int) -> list[Part]:
    starts = range(0, size_bytes, part_bytes)
    return [Part(number, start, min(start + part_bytes, size_bytes)) for number, start in enumerate(starts, start=1)]


def _ranges(store: ObjectStore) -> RangeWrites:
    if store.range_writes is None:
        raise UploadNotResumableError(
            'The store of this server takes parts directly; announce the file with "resumable": true and send its '
            "parts to the URLs of GET /v1/uploads/ID/parts."
        )
    return store.range_writes


def _busy(upload: Upload) -> UploadBusyError:
    return UploadBusyError(f"Another call sends bytes of upload {upload.id}; ask for its parts again soon.")


def _stored_parts(db: Database, writes: PartWrites, upload: Upload) -> list[StoredPart]:
    """Return the parts in the bucket, of a write that is begun where there is none."""
    for _ in range(2):
        if upload.write_id is None:
            _begin(db, writes, upload)
        assert upload.write_id is not None, upload.id
        try:
            return writes.stored_parts(parts_key(upload.id), upload.write_id)
        except WriteUnknownError:  # discarded, for example by a rule of the bucket; or finished meanwhile
            _forget(db, upload)
    return []


def _begin(db: Database, writes: PartWrites, upload: Upload) -> None:
    key = parts_key(upload.id)
    begun = writes.begin(key, content_type=upload.content_type, sha256=upload.sha256)
    upload.write_id = db.run(lambda tx: _set_write(tx, upload.id, None, begun), repeatable=True)
    if upload.write_id != begun:  # somebody else was first
        writes.discard(key, begun)


def _forget(db: Database, upload: Upload) -> None:
    lost = upload.write_id
    upload.write_id = db.run(lambda tx: _set_write(tx, upload.id, lost, None), repeatable=True)


def _set_write(tx: Transaction, upload_id: str, current: str | None, following: str | None) -> str | None:
    """Replace the id of an upload's write if it is still `current`; return what it is then."""
    same = Upload.write_id.is_(None) if current is None else Upload.write_id == current
    tx.session.execute(
        update(Upload).where(Upload.id == upload_id, Upload.checked_at.is_(None), same).values(write_id=following),
        execution_options={"synchronize_session": False},
    )
    return tx.session.get_one(Upload, upload_id, populate_existing=True).write_id


def _whole_parts(upload: Upload, stored: list[StoredPart]) -> list[StoredPart]:
    """Return the parts that have the size that they must have; another one has to be sent again."""
    assert upload.part_bytes is not None, upload.id
    sizes = {part.number: part.end - part.start for part in _grid(upload.size_bytes, upload.part_bytes)}
    return [part for part in stored if sizes.get(part.number) == part.size_bytes]


def _finish_parts(db: Database, store: ObjectStore, writes: PartWrites, upload: Upload) -> ObjectMetadata:
    if upload.part_bytes is None:
        raise UploadNotResumableError(f"Upload {upload.id} was not announced as resumable.")
    key, count = parts_key(upload.id), len(_grid(upload.size_bytes, upload.part_bytes))
    try:
        if upload.write_id is None:
            raise UploadIncompleteError(f"Upload {upload.id} has no parts yet.")
        whole = _whole_parts(upload, writes.stored_parts(key, upload.write_id))
        if len(whole) < count:
            raise UploadIncompleteError(f"Upload {upload.id} has {len(whole)} of {count} parts; send the others first.")
        written = writes.finish(key, upload.write_id, whole)
    except WriteUnknownError:
        written = _finished_before(db, store, upload)
    if upload.sha256 is None:
        return replace(written, sha256=None)
    found = sha256_of_object(store, key)  # the store compared nothing with the announcement
    if found != upload.sha256:
        discard(store, key)
        _forget(db, upload)
        raise UploadMismatchError(
            f"Upload {upload.id} has the SHA-256 {found}, announced was {upload.sha256}; send all parts again."
        )
    return replace(written, sha256=found)


def _finished_before(db: Database, store: ObjectStore, upload: Upload) -> ObjectMetadata:
    """Return the object of a write that is gone: an earlier call finished it, and the row did not learn so."""
    try:
        return store.head(parts_key(upload.id))
    except ObjectNotFoundError as exc:
        _forget(db, upload)
        raise UploadIncompleteError(f"The parts of upload {upload.id} are gone; send them again.") from exc


def _finish_ranges(writes: RangeWrites, upload: Upload) -> ObjectMetadata:
    key = parts_key(upload.id)
    there = writes.received_bytes(key)
    if there < upload.size_bytes:
        raise UploadIncompleteError(
            f"Upload {upload.id} has {there} of {upload.size_bytes} bytes; send the others first."
        )
    try:
        return writes.finish(key, content_type=upload.content_type, sha256=upload.sha256)
    except WriteBusyError as exc:
        raise _busy(upload) from exc
    except ChecksumMismatchError as exc:
        raise UploadMismatchError(f"Upload {upload.id} is not what was announced: {exc} Send all of it again.") from exc
    except ObjectNotFoundError as exc:  # another call has finished it meanwhile
        raise _busy(upload) from exc


def _compare_range(store: ObjectStore, upload: Upload, content: BinaryIO, start: int, end: int) -> None:
    """Accept bytes that an upload has already, whose answer was lost."""
    for chunk in store.open_read(upload.storage_key, start=start, end=end):
        rest = memoryview(chunk)
        while rest:
            sent = content.read(min(len(rest), _COMPARED_BYTES))
            if not sent or sent != rest[: len(sent)]:
                raise UploadCompleteError(f"Upload {upload.id} is already complete; announce another one.")
            rest = rest[len(sent) :]
