"""Errors in Replicate's shape: a problem document that names the fields of the input as the caller does."""

from __future__ import annotations

import json
from typing import Any

from flask import Response

from api.problem_document import PROBLEM_TYPE
from jobs.compat.replicate_prediction import field_names

_OTHER_NAMES = {"variant": "version", "webhook_url": "webhook", "webhook_events": "webhook_events_filter"}


def replicate_problem(response: Response) -> Response:
    """Return the answer, with the fields at fault named as Replicate does if it is about fields."""
    if response.mimetype != PROBLEM_TYPE:
        return response
    document: dict[str, Any] = json.loads(response.get_data())
    if "errors" not in document:
        return response
    names = {ours: f"input.{theirs}" for ours, theirs in field_names().items()} | _OTHER_NAMES
    errors = [{**error, "field": names.get(error["field"], error["field"])} for error in document["errors"]]
    document |= {
        "title": "Input validation failed",
        "detail": "".join(f"- {error['field']}: {error['message']}\n" for error in errors),
        "errors": errors,
        "invalid_fields": [
            {"type": "invalid", "field": error["field"], "description": error["message"]} for error in errors
        ],
    }
    response.set_data(json.dumps(document))
    return response
