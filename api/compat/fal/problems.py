"""Errors in fal's shape: `detail`, a list where fields are at fault, and `error_type`."""

from __future__ import annotations

import json
from typing import Any

from flask import Response, jsonify

from api.problem_document import PROBLEM_TYPE
from jobs.compat.fal_request import CANCELED, field_names, is_input_error
from jobs.db.tables import Job
from jobs.lifecycle import State

_OTHER_NAMES = {
    "webhook_url": ("query", "fal_webhook"),
    "queue_ttl_s": ("header", "X-Fal-Request-Timeout"),
    "priority": ("header", "X-Fal-Queue-Priority"),
}
IN_PROGRESS = "request_in_progress"


def fal_problem(response: Response) -> Response:
    """Return the answer, in fal's shape if it is a problem."""
    if response.mimetype != PROBLEM_TYPE:
        return response
    document: dict[str, Any] = json.loads(response.get_data())
    fault: dict[str, Any] = {"detail": document["detail"], "error_type": document["code"]}
    if "errors" in document:
        fault["detail"] = [
            {"loc": list(_place(error["field"])), "msg": error["message"], "type": "value_error"}
            for error in document["errors"]
        ]
    response.set_data(json.dumps(fault))
    response.mimetype = "application/json"
    response.headers["x-fal-error-type"] = document["code"]
    return response


def _place(field: str) -> tuple[str, ...]:
    return _OTHER_NAMES.get(field) or ("body", field_names().get(field, field))


def fault(status: int, code: str, detail: str | list[dict[str, Any]]) -> Response:
    """Return an answer with an error."""
    response = jsonify({"detail": detail, "error_type": code})
    response.status_code = status
    response.headers["x-fal-error-type"] = code
    return response


def no_result(job: Job) -> Response:
    """Return the answer for the result of a job that has none."""
    if not job.state.is_terminal:
        return fault(400, IN_PROGRESS, "Request is still in progress")
    if job.state is State.CANCELED:
        return fault(400, CANCELED["code"], CANCELED["message"])
    error = job.error or {}
    code, message = str(error.get("code", "failed")), str(error.get("message", "The request failed."))
    if is_input_error(error):
        return fault(422, code, [{"loc": ["body", "video_url"], "msg": message, "type": code}])
    return fault(500, code, message)
