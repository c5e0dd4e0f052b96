"""Checks a request that was made from another shape's fields."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from jobs.errors import FieldProblem, RequestInvalidError
from jobs.request import FieldAtFaultError, JobRequest

MAX_PROBLEMS = 20


def checked_request(fields: dict[str, Any]) -> JobRequest:
    """Return a job's request.

    Raises:
        RequestInvalidError: fields are not allowed; it names them as a job's request does.
    """
    try:
        return JobRequest.model_validate(fields)
    except ValidationError as exc:
        errors = exc.errors(include_url=False, include_input=False)[:MAX_PROBLEMS]
        raise RequestInvalidError(
            [FieldProblem(_field(error), str(error["msg"]).removeprefix("Value error, ")) for error in errors]
        ) from exc


def _field(error: Any) -> str:
    cause = error.get("ctx", {}).get("error")
    if isinstance(cause, FieldAtFaultError):
        return cause.field
    return ".".join(str(part) for part in error["loc"]) or "request"
