"""The request of a job as the request of another one: unchanged, or with other fields."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from jobs.db.tables import Job
from jobs.errors import FieldProblem, RequestInvalidError
from jobs.request import FieldAtFaultError, JobRequest, is_web_url

MAX_PROBLEMS = 20
_SOURCES = ("video", "image")


def stored_request(job: Job) -> JobRequest:
    """Return the request of a job, with the fields of its preset and without its name, and with its input's whole URL.

    Raises:
        RequestInvalidError: this version does not allow it.
    """
    return parse_request(_stored_fields(job))


def changed_request(job: Job, changes: Mapping[str, Any]) -> JobRequest:
    """Return the request of a job with other fields, checked as a whole.

    Args:
        changes: fields by name; None: the default, or drawn anew, as if the first request had not had the field.

    Raises:
        RequestInvalidError: it is not valid.
    """
    fields = {name: value for name, value in _stored_fields(job).items() if name not in changes}
    fields |= {name: value for name, value in changes.items() if value is not None}
    unknown = [name for name, value in changes.items() if value is None and name not in JobRequest.model_fields]
    if unknown:
        raise RequestInvalidError([FieldProblem(name, "there is no such field") for name in unknown[:MAX_PROBLEMS]])
    if changes.get("preset") is not None:
        raise RequestInvalidError.of(
            "preset",
            "a retry has the fields of its job; give the fields to change, or create a new job with the preset",
        )
    given = {name for name in _SOURCES if changes.get(name) is not None}
    if len(given) == 1:  # a video instead of an image, or the other way round
        for other in set(_SOURCES) - given:
            fields.pop(other, None)
    if "mux" not in changes and fields.get("video") is None:
        fields.pop("mux", None)  # filled in as the default with a video
    return parse_request(fields)


def _stored_fields(job: Job) -> dict[str, Any]:
    fields = {name: value for name, value in job.request.items() if name != "preset"}
    if job.input_key is not None and is_web_url(job.input_key):  # the request shows it without its query
        fields["video" if fields.get("video") is not None else "image"] = job.input_key
    return fields


def parse_request(fields: Mapping[str, Any]) -> JobRequest:
    """Return the request that has these fields.

    Raises:
        RequestInvalidError: it is not valid; names the first fields.
    """
    try:
        return JobRequest.model_validate(fields)
    except ValidationError as exc:
        raise RequestInvalidError(list(field_problems(exc))[:MAX_PROBLEMS]) from exc


def field_problems(exc: ValidationError) -> Iterable[FieldProblem]:
    """Yield the fields that are not valid."""
    for error in exc.errors(include_url=False, include_input=False):
        cause = error.get("ctx", {}).get("error")
        name = cause.field if isinstance(cause, FieldAtFaultError) else ".".join(str(part) for part in error["loc"])
        message = error["msg"].removeprefix("Value error, ")
        yield FieldProblem(
            name or "request", "there is no such field" if error["type"] == "extra_forbidden" else message
        )
