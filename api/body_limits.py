"""How large the JSON body of a call may be: more for those that may have a `data:` URI."""

from __future__ import annotations

import re

from flask import Flask, request

from jobs.settings import MIB

MAX_JSON_BYTES = MIB
# A `data:` URI of 10 MiB in base64, some of whose slashes are escaped, and the other fields.
MAX_DATA_JSON_BYTES = 16 * MIB
# 10,000 requests.
MAX_BATCH_BYTES = 32 * MIB
BATCHES_PATH = "/v1/batches"
# Calls that create a job from one request.
_MAY_HAVE_DATA = re.compile(
    r"/v1/jobs|/v1/predictions|/v1/(?:models|deployments)/[^/]+/[^/]+/predictions"
    r"|/fal-ai/[^/]+(?:/text-to-audio)?|/fal/(?:queue|run)/[^/]+/[^/]+(?:/text-to-audio)?(?:/stream)?"
)


def body_limit(method: str, path: str) -> int:
    """Return the most bytes that the JSON body of a call may have."""
    if (method, path) == ("POST", BATCHES_PATH):
        return MAX_BATCH_BYTES
    return MAX_DATA_JSON_BYTES if method == "POST" and _MAY_HAVE_DATA.fullmatch(path) else MAX_JSON_BYTES


def register_body_limits(app: Flask) -> None:
    """Refuse larger bodies; must be registered before anything reads a body."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    app.before_request(_set_limit)


def _set_limit() -> None:
    request.max_content_length = body_limit(request.method, request.path)
