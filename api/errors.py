"""Maps errors to problem documents (RFC 9457). The only module that knows both."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, request
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from werkzeug.exceptions import HTTPException

from api.batch_body import MalformedJsonError, MediaTypeError
from api.body_limits import TooManyValuesError
from api.context import current_context
from api.presentation import job_document
from api.problem_document import PROBLEM_TYPE, problem_document
from api.request_body import BodyIncompleteError, LengthRequiredError
from api.schemas.view import iso_time
from api.sns import SnsUnreachableError
from api.upload_checks import UploadCheckPendingError
from jobs import errors as domain
from jobs.db.faults import is_disk_full, is_read_only, is_unavailable, message, reason
from jobs.outbound.errors import OutboundError, OutboundRefusedError
from jobs.queue import BrokerUnavailableError
from jobs.request import FieldAtFaultError
from jobs.storage import errors as storage
from jobs.webhooks import errors as webhooks

log = logging.getLogger(__name__)

STATUS: dict[type[Exception], HTTPStatus] = {
    BodyIncompleteError: HTTPStatus.BAD_REQUEST,
    MalformedJsonError: HTTPStatus.BAD_REQUEST,
    MediaTypeError: HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
    TooManyValuesError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    LengthRequiredError: HTTPStatus.LENGTH_REQUIRED,
    UploadCheckPendingError: HTTPStatus.SERVICE_UNAVAILABLE,
    domain.KeyRefusedError: HTTPStatus.UNAUTHORIZED,
    domain.ScopeMissingError: HTTPStatus.FORBIDDEN,
    domain.ApiKeyNotFoundError: HTTPStatus.NOT_FOUND,
    domain.ApiKeyInactiveError: HTTPStatus.CONFLICT,
    domain.RequestInvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.InvalidCursorError: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.IdempotencyMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.JobNotFoundError: HTTPStatus.NOT_FOUND,
    domain.BatchNotFoundError: HTTPStatus.NOT_FOUND,
    domain.BatchEndedError: HTTPStatus.CONFLICT,
    domain.PresetNotFoundError: HTTPStatus.NOT_FOUND,
    domain.PresetLimitError: HTTPStatus.CONFLICT,
    domain.UploadInUseError: HTTPStatus.CONFLICT,
    domain.UploadNotFoundError: HTTPStatus.NOT_FOUND,
    domain.TriggerNotFoundError: HTTPStatus.NOT_FOUND,
    domain.TriggerInactiveError: HTTPStatus.CONFLICT,
    domain.BucketNotListedError: HTTPStatus.CONFLICT,
    domain.WorkerNotFoundError: HTTPStatus.NOT_FOUND,
    domain.ArtifactNotFoundError: HTTPStatus.NOT_FOUND,
    domain.ContentGoneError: HTTPStatus.GONE,
    domain.LinkRefusedError: HTTPStatus.FORBIDDEN,
    domain.UploadMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.UploadCompleteError: HTTPStatus.CONFLICT,
    domain.UploadIncompleteError: HTTPStatus.CONFLICT,
    domain.UploadOffsetError: HTTPStatus.CONFLICT,
    domain.UploadBusyError: HTTPStatus.CONFLICT,
    domain.UploadNotResumableError: HTTPStatus.CONFLICT,
    domain.EventsRefusedError: HTTPStatus.FORBIDDEN,
    OutboundRefusedError: HTTPStatus.UNPROCESSABLE_ENTITY,
    OutboundError: HTTPStatus.BAD_GATEWAY,
    domain.EventUnreadableError: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.JobEndedError: HTTPStatus.CONFLICT,
    domain.JobNotEndedError: HTTPStatus.CONFLICT,
    domain.QueueFullError: HTTPStatus.TOO_MANY_REQUESTS,
    domain.LimitReachedError: HTTPStatus.TOO_MANY_REQUESTS,
    domain.UploadNeverFitsError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    webhooks.EndpointNotFoundError: HTTPStatus.NOT_FOUND,
    webhooks.DeliveryNotFoundError: HTTPStatus.NOT_FOUND,
    webhooks.TooManyEndpointsError: HTTPStatus.CONFLICT,
    webhooks.EndpointDisabledError: HTTPStatus.CONFLICT,
    webhooks.DeliveryPendingError: HTTPStatus.CONFLICT,
    domain.DiskReserveError: HTTPStatus.INSUFFICIENT_STORAGE,
    storage.ObjectTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    storage.ChecksumMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    storage.ObjectNotFoundError: HTTPStatus.GONE,
    storage.StorageFullError: HTTPStatus.INSUFFICIENT_STORAGE,
    storage.StorageError: HTTPStatus.SERVICE_UNAVAILABLE,
    BrokerUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}
QUEUE_FULL_RETRY_S = 30
UNAVAILABLE_RETRY_S = 5
CHALLENGE = 'Bearer realm="mmaudio"'
CHECK_PENDING_RETRY_S = 2
DISK_FULL_RETRY_S = 30


# A body of 1 MiB can have 90,000 wrong fields.
MAX_LISTED_ERRORS = 20


def problem(
    status: int, code: str, detail: str, *, fields: list[dict[str, Any]] | None = None, **members: Any
) -> Response:
    """Return a response with a problem document."""
    response = jsonify(problem_document(status, code, detail, fields=fields, **members))
    response.status_code = status
    response.mimetype = PROBLEM_TYPE
    return response


def too_many(what: str) -> Response:
    """Return the response for a request for which there is no place now: 503 with `Retry-After`."""
    if current_context().log_limit.allows(f"too many {what}"):
        log.warning("refused: too many %s at once (said once a minute)", what)
    detail = f"The server receives as many {what} as it can; try again soon."
    response = problem(HTTPStatus.SERVICE_UNAVAILABLE, "busy", detail)
    response.headers["Retry-After"] = str(UNAVAILABLE_RETRY_S)
    return response


def register_error_handlers(app: Flask) -> None:
    """Answer every error with a problem document."""
    app.register_error_handler(domain.DomainError, _domain_error)
    app.register_error_handler(storage.StorageError, _storage_error)
    app.register_error_handler(BrokerUnavailableError, lambda _: _unavailable("broker"))
    app.register_error_handler(SnsUnreachableError, lambda _: _unavailable("sns"))
    app.register_error_handler(SQLAlchemyError, _database_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unexpected)


def invalid_fields(exc: ValidationError) -> Response:
    """Return the response for a request that pydantic refused: one entry per field, for the first ones."""
    errors = exc.errors(include_url=False, include_input=False)
    fields = [{"field": _field_name(error), "message": _message(error)} for error in errors[:MAX_LISTED_ERRORS]]
    names = ", ".join(sorted({field["field"] for field in fields}))
    more = f" and {len(errors) - len(fields)} more" if len(errors) > len(fields) else ""
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", f"Not allowed: {names}{more}.", fields=fields)


def _field_name(error: Any) -> str:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, FieldAtFaultError):
        return cause.field
    return ".".join(str(part) for part in error["loc"]) or "body"


def _message(error: Any) -> str:
    if error["type"] == "extra_forbidden":
        return "there is no such field"
    return str(error["msg"]).removeprefix("Value error, ")


def _status(exc: Exception) -> HTTPStatus:
    for kind in type(exc).__mro__:
        if kind in STATUS:
            return STATUS[kind]
    return HTTPStatus.INTERNAL_SERVER_ERROR


def _domain_error(exc: domain.DomainError) -> Response:
    if isinstance(exc, domain.DiskReserveError):
        return _disk_full(exc.code, "The disk of the server is almost full", f"disk full: {exc}")
    fields = None
    members: dict[str, Any] = {}
    if isinstance(exc, domain.RequestInvalidError):
        fields = [{"field": p.field, "message": p.message} for p in exc.problems]
    if isinstance(exc, domain.InvalidCursorError):
        fields = [{"field": "cursor", "message": exc.message}]
    if isinstance(exc, domain.JobEndedError | domain.JobNotEndedError):
        members["job"] = job_document(current_context(), exc.job_id)
    if isinstance(exc, domain.ContentGoneError):
        members |= {
            "reason": exc.reason,
            "expired_at": iso_time(exc.expired_at) if exc.expired_at is not None else None,
            "deleted_at": iso_time(exc.deleted_at) if exc.deleted_at is not None else None,
        }
    if isinstance(exc, domain.UploadOffsetError):
        members["offset"] = exc.offset
    response = problem(_status(exc), exc.code, exc.message, fields=fields, **members)
    if isinstance(exc, domain.UploadOffsetError):
        response.headers["Upload-Offset"] = str(exc.offset)
    if isinstance(exc, domain.QueueFullError):
        _say_limit(response, exc.limit, QUEUE_FULL_RETRY_S)
    if isinstance(exc, domain.LimitReachedError) and response.status_code == HTTPStatus.TOO_MANY_REQUESTS:
        _say_limit(response, exc.limit, exc.retry_s)
    if isinstance(exc, domain.KeyRefusedError):
        response.headers["WWW-Authenticate"] = CHALLENGE
    if isinstance(exc, UploadCheckPendingError | domain.UploadBusyError):
        response.headers["Retry-After"] = str(CHECK_PENDING_RETRY_S)
    return response


def _say_limit(response: Response, limit: int, retry_s: int) -> None:
    response.headers["Retry-After"] = str(retry_s)
    response.headers["RateLimit-Limit"] = str(limit)
    response.headers["RateLimit-Remaining"] = "0"
    response.headers["RateLimit-Reset"] = str(retry_s)


def _storage_error(exc: storage.StorageError) -> Response:
    status = _status(exc)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        _log_fault("storage", str(exc))
        return _unavailable("storage")
    if status is HTTPStatus.INSUFFICIENT_STORAGE:
        return _disk_full("storage_full", "The object store is full", f"disk full (storage): {exc}")
    codes = {413: "too_large", 422: "checksum_mismatch", 410: "object_gone"}
    return problem(status, codes[status], str(exc))


def _database_error(exc: SQLAlchemyError) -> Response:
    if isinstance(exc, DBAPIError) and is_disk_full(exc):
        line = f"disk full (database): {message(exc)}"
        return _disk_full("database_full", "The disk of the database is full", line)
    if not is_unavailable(exc):
        return _unexpected(exc)
    _log_fault("database", reason(exc))
    if is_read_only(exc):
        return _unavailable("database", "The database accepts no changes for the moment; try again soon.")
    return _unavailable("database")


def _disk_full(code: str, what: str, line: str) -> Response:
    """Return the response of a full disk, and log one line a minute, whatever is full.

    Args:
        line: names the folder, which callers do not see.
    """
    if current_context().log_limit.allows("disk full"):
        log.warning("%s", line.strip())
    detail = f"{what}; nothing was stored. Try again when the operator has freed space."
    response = problem(HTTPStatus.INSUFFICIENT_STORAGE, code, detail)
    response.headers["Retry-After"] = str(DISK_FULL_RETRY_S)
    return response


def _log_fault(name: str, what: str) -> None:
    """Log a fault that every request may meet, once a minute."""
    if current_context().log_limit.allows(name):
        log.warning("%s: %s", name, what.strip())


def _unavailable(name: str, detail: str = "") -> Response:
    response = problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{name}_unavailable",
        detail or f"The {name} does not answer; try again soon.",
        down=[name],
    )
    response.headers["Retry-After"] = str(UNAVAILABLE_RETRY_S)
    return response


def _http_error(exc: HTTPException) -> Response:
    if exc.response is not None:  # a ready response, such as that of a failed validation
        return exc.response  # type: ignore[return-value]
    status = exc.code or 500
    codes = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "wrong_media_type"}
    codes[408] = "body_too_slow"
    detail = {
        404: f"There is nothing at {request.path}.",
        405: f"{request.method} is not allowed at {request.path}.",
        413: "The body is larger than allowed.",
    }.get(status, exc.description or "")
    response = problem(status, codes.get(status, f"http_{status}"), detail)
    for name, value in exc.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _unexpected(exc: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=exc)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "The server failed unexpectedly; its log has the details.",
    )
