"""From errors to answers: one table, and problem documents (RFC 9457). The only place that knows both."""

from __future__ import annotations

import logging
from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify, request
from pydantic import ValidationError
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from werkzeug.exceptions import HTTPException

from api.context import current_context
from api.presentation import present_job
from api.sns import SnsRefusedError, SnsUnreachableError
from jobs import errors as domain
from jobs.queue import BrokerUnavailableError
from jobs.request import FieldAtFaultError
from jobs.storage import errors as storage

log = logging.getLogger(__name__)

STATUS: dict[type[Exception], HTTPStatus] = {
    domain.RequestInvalidError: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.InvalidCursorError: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.IdempotencyMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    domain.JobNotFoundError: HTTPStatus.NOT_FOUND,
    domain.UploadNotFoundError: HTTPStatus.NOT_FOUND,
    domain.TriggerNotFoundError: HTTPStatus.NOT_FOUND,
    domain.WorkerNotFoundError: HTTPStatus.NOT_FOUND,
    domain.ArtifactNotFoundError: HTTPStatus.NOT_FOUND,
    domain.ArtifactExpiredError: HTTPStatus.GONE,
    domain.JobEndedError: HTTPStatus.CONFLICT,
    domain.JobNotEndedError: HTTPStatus.CONFLICT,
    domain.QueueFullError: HTTPStatus.TOO_MANY_REQUESTS,
    storage.ObjectTooLargeError: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    storage.ChecksumMismatchError: HTTPStatus.UNPROCESSABLE_ENTITY,
    storage.ObjectNotFoundError: HTTPStatus.GONE,
    storage.StorageFullError: HTTPStatus.INSUFFICIENT_STORAGE,
    storage.StorageError: HTTPStatus.SERVICE_UNAVAILABLE,
    BrokerUnavailableError: HTTPStatus.SERVICE_UNAVAILABLE,
}
QUEUE_FULL_RETRY_S = 30
UNAVAILABLE_RETRY_S = 5


class LinkRefusedError(domain.DomainError):
    """Raised for a signed link that is forged or has expired."""

    code = "link_refused"


class UploadMismatchError(domain.DomainError):
    """Raised when other bytes come than were announced."""

    code = "upload_mismatch"


class UploadCompleteError(domain.DomainError):
    """Raised when bytes come for an upload that has them already."""

    code = "upload_complete"


class UploadExpiredError(domain.DomainError):
    """Raised when bytes come for an upload whose time is over."""

    code = "upload_expired"


class EventsRefusedError(domain.DomainError):
    """Raised for bucket events without the shared token, or where none is set."""

    code = "events_refused"


class EventUnreadableError(domain.DomainError):
    """Raised for a body that is no bucket event of a known form."""

    code = "event_unreadable"


STATUS[SnsRefusedError] = HTTPStatus.FORBIDDEN
STATUS[EventsRefusedError] = HTTPStatus.FORBIDDEN
STATUS[EventUnreadableError] = HTTPStatus.UNPROCESSABLE_ENTITY
STATUS[LinkRefusedError] = HTTPStatus.FORBIDDEN
STATUS[UploadMismatchError] = HTTPStatus.UNPROCESSABLE_ENTITY
STATUS[UploadCompleteError] = HTTPStatus.CONFLICT
STATUS[UploadExpiredError] = HTTPStatus.GONE


def problem(
    status: int, code: str, detail: str, *, fields: list[dict[str, str]] | None = None, **members: Any
) -> Response:
    """Make a problem document."""
    body: dict[str, Any] = {
        "type": f"/problems/{code}",
        "title": HTTPStatus(status).phrase,
        "status": int(status),
        "detail": detail,
        "code": code,
        **members,
    }
    if fields is not None:
        body["errors"] = fields
    response = jsonify(body)
    response.status_code = status
    response.mimetype = "application/problem+json"
    return response


def register_error_handlers(app: Flask) -> None:
    """Answer every error with a problem document."""
    app.register_error_handler(domain.DomainError, _domain_error)
    app.register_error_handler(storage.StorageError, _storage_error)
    app.register_error_handler(BrokerUnavailableError, lambda _: _unavailable("broker"))
    app.register_error_handler(SnsUnreachableError, lambda _: _unavailable("sns"))
    app.register_error_handler(SQLAlchemyError, _database_error)
    app.register_error_handler(HTTPException, _http_error)
    app.register_error_handler(Exception, _unforeseen)


def invalid_fields(exc: ValidationError) -> Response:
    """Answer what pydantic found, field by field."""
    fields = [{"field": _field_name(error), "message": _message(error)} for error in exc.errors()]
    names = ", ".join(sorted({field["field"] for field in fields}))
    return problem(HTTPStatus.UNPROCESSABLE_ENTITY, "invalid_request", f"Not allowed: {names}.", fields=fields)


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
    fields = None
    members: dict[str, Any] = {}
    if isinstance(exc, domain.RequestInvalidError):
        fields = [{"field": p.field, "message": p.message} for p in exc.problems]
    if isinstance(exc, domain.InvalidCursorError):
        fields = [{"field": "cursor", "message": exc.message}]
    if isinstance(exc, domain.JobEndedError | domain.JobNotEndedError):
        members["job"] = present_job(current_context(), exc.job_id)
    response = problem(_status(exc), exc.code, exc.message, fields=fields, **members)
    if isinstance(exc, domain.QueueFullError):
        response.headers["Retry-After"] = str(QUEUE_FULL_RETRY_S)
        response.headers["RateLimit-Limit"] = str(exc.limit)
        response.headers["RateLimit-Remaining"] = "0"
        response.headers["RateLimit-Reset"] = str(QUEUE_FULL_RETRY_S)
    return response


def _storage_error(exc: storage.StorageError) -> Response:
    status = _status(exc)
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        log.warning("storage: %s", exc)
        return _unavailable("storage")
    codes = {413: "too_large", 422: "checksum_mismatch", 410: "object_gone", 507: "storage_full"}
    return problem(status, codes[status], str(exc))


def _database_error(exc: SQLAlchemyError) -> Response:
    if isinstance(exc, DBAPIError) and not exc.connection_invalidated and "Operational" not in type(exc).__name__:
        return _unforeseen(exc)
    log.warning("database: %s", exc)
    return _unavailable("database")


def _unavailable(name: str) -> Response:
    response = problem(
        HTTPStatus.SERVICE_UNAVAILABLE,
        f"{name}_unavailable",
        f"The {name} does not answer; try again soon.",
        down=[name],
    )
    response.headers["Retry-After"] = str(UNAVAILABLE_RETRY_S)
    return response


def _http_error(exc: HTTPException) -> Response:
    if exc.response is not None:  # an answer made elsewhere, such as that of a failed validation
        return exc.response  # type: ignore[return-value]
    status = exc.code or 500
    codes = {400: "bad_request", 404: "not_found", 405: "method_not_allowed", 413: "too_large", 415: "wrong_media_type"}
    detail = {
        404: f"There is nothing at {request.path}.",
        405: f"{request.method} is not possible at {request.path}.",
        413: "The body is larger than allowed here.",
    }.get(status, exc.description or "")
    response = problem(status, codes.get(status, f"http_{status}"), detail)
    for name, value in exc.get_headers():
        if name.lower() not in {"content-type", "content-length"}:
            response.headers[name] = value
    return response


def _unforeseen(exc: Exception) -> Response:
    log.error("%s %s failed", request.method, request.path, exc_info=exc)
    return problem(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "internal_error",
        "Something went wrong here; the server's log has the details.",
    )
