"""How large the JSON body of a call may be: more for those that may have a `data:` URI."""

from __future__ import annotations

import re
from typing import Any

from flask import Flask, request
from werkzeug.exceptions import RequestEntityTooLarge

from jobs.data_uris import is_data_uri
from jobs.errors import DomainError
from jobs.settings import MIB

MAX_JSON_BYTES = MIB
# A `data:` URI of 10 MiB in base64, some of whose slashes are escaped, and the other fields.
MAX_DATA_JSON_BYTES = 16 * MIB
# 10,000 requests.
MAX_BATCH_BYTES = 32 * MIB
BATCHES_PATH = "/v1/batches"
# Of a large body. 10,000 requests with everything that they may have stay below it. Parsed, a value takes up to 100
# bytes whatever its length: 32 MiB of empty objects would take a gigabyte, and every thread would wait for it.
MAX_JSON_VALUES = 1_000_000
# Calls that create a job from one request.
_MAY_HAVE_DATA = re.compile(
    r"/v1/jobs|/v1/predictions|/v1/(?:models|deployments)/[^/]+/[^/]+/predictions"
    r"|/fal-ai/[^/]+(?:/text-to-audio)?|/fal/(?:queue|run)/[^/]+/[^/]+(?:/text-to-audio)?(?:/stream)?"
)

_BEFORE_A_VALUE = (b",", b"[", b"{")
# Possessive, and to the end where it is not closed: each byte is looked at once.
_JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


class TooManyValuesError(DomainError):
    """Raised for a JSON body that has more values than any call needs."""

    code = "too_large"


def body_limit(method: str, path: str) -> int:
    """Return the most bytes that the JSON body of a call may have."""
    if (method, path) == ("POST", BATCHES_PATH):
        return MAX_BATCH_BYTES
    return MAX_DATA_JSON_BYTES if method == "POST" and _MAY_HAVE_DATA.fullmatch(path) else MAX_JSON_BYTES


def register_body_limits(app: Flask) -> None:
    """Refuse larger bodies; must be registered before anything reads a body."""
    app.config["MAX_CONTENT_LENGTH"] = MAX_JSON_BYTES
    app.before_request(_set_limit)


def check_json_values(data: bytes) -> None:
    """Check, before a JSON body is parsed, that this will not take many times its memory.

    Raises:
        TooManyValuesError: it would.
    """
    if len(data) <= MAX_JSON_BYTES or _values(data) <= MAX_JSON_VALUES:
        return
    if _values(_JSON_STRING.sub(b"", data)) > MAX_JSON_VALUES:
        raise TooManyValuesError(
            f"The body has more than {MAX_JSON_VALUES} values (lists, objects and what is in them); send fewer."
        )


def _values(data: bytes) -> int:
    return sum(data.count(sign) for sign in _BEFORE_A_VALUE)


def check_json_size(body: Any) -> None:
    """Check that what a parsed body has beside `data:` URIs is not larger than any other body.

    Raises:
        RequestEntityTooLarge: it is.
    """
    size_bytes = len(request.get_data())
    if size_bytes > MAX_JSON_BYTES and size_bytes - _data_chars(body) > MAX_JSON_BYTES:
        raise RequestEntityTooLarge


def _data_chars(body: Any) -> int:
    """Return the length of the `data:` URIs in a body: in its fields, and one level deeper (`input`)."""
    if not isinstance(body, dict):
        return 0
    values = [*body.values()]
    values += [inner for value in body.values() if isinstance(value, dict) for inner in value.values()]
    return sum(len(value) for value in values if isinstance(value, str) and is_data_uri(value))


def _set_limit() -> None:
    request.max_content_length = body_limit(request.method, request.path)
