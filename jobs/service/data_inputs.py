"""Turns the `data:` URI of a request into an upload, so that the stored request names a file and not its bytes."""

from __future__ import annotations

import mimetypes

from jobs.data_uris import is_data_uri, parse_data_uri
from jobs.db.database import Database
from jobs.errors import RequestInvalidError
from jobs.request import JobRequest
from jobs.service.presets import PresetLookup
from jobs.service.submission import SubmitPolicy, check_backlog, check_request
from jobs.service.uploads import store_upload
from jobs.storage.protocol import ObjectStore


def has_data_input(request: JobRequest) -> bool:
    """Return whether the input of a request stands in the request itself."""
    return request.source is not None and is_data_uri(request.source)


def store_data_input(
    db: Database,
    store: ObjectStore,
    request: JobRequest,
    *,
    policy: SubmitPolicy,
    ttl_s: int,
    max_bytes: int,
    max_held_bytes: int = 0,
) -> JobRequest:
    """Return the request with an upload in place of its `data:` URI; one without such a URI is returned as it is.

    What `submit` would refuse for another reason is refused before anything is stored.

    Args:
        ttl_s: how long the upload is kept.
        max_bytes: of an upload.
        max_held_bytes: of all the tenant's uploads; 0: no limit.

    Raises:
        RequestInvalidError: the URI or another field is not allowed.
        QueueFullError, DiskReserveError: as `submit`.
        UploadNeverFitsError, UploadStorageFullError: the tenant has too many bytes of uploads.
        StorageError: the object could not be stored.
    """
    source, field = request.source, request.source_field
    if source is None or not is_data_uri(source):
        return request
    try:
        data = parse_data_uri(source)
    except ValueError as exc:
        raise RequestInvalidError.of(field, str(exc)) from exc
    if len(data.content) > max_bytes:
        raise RequestInvalidError.of(field, f"the data: URI has more than the allowed {max_bytes} bytes")
    policy.disk.check()
    with db.reading() as tx:
        check_backlog(tx, policy)
        filled, preset = PresetLookup(tx).apply(request)
        check_request(tx, filled.model_copy(update={field: None}), policy=policy, preset=preset)
    upload_id = store_upload(
        db,
        store,
        data.content,
        filename=f"input{mimetypes.guess_extension(data.content_type) or ''}",
        content_type=data.content_type,
        ttl_s=ttl_s,
        max_held_bytes=max_held_bytes,
    )
    return request.model_copy(update={field: upload_id})
