"""Checks of what is to be sent: found here, a mistake costs no upload and no request."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from mmaudio_client.errors import InvalidInputError, InvalidRequestError

INVALID_STATUS = 422


def check_body(body: Mapping[str, Any]) -> None:
    """Check that every field of a request can be sent as JSON.

    Raises:
        InvalidInputError: a text is not valid Unicode.
        InvalidRequestError: a number is NaN or infinite, or a value has no form in JSON; names the field.
    """
    for name, value in body.items():
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except UnicodeEncodeError as exc:
            raise InvalidInputError(f"The request contains text that is not valid Unicode, in {name}.") from exc
        except (TypeError, ValueError, RecursionError) as exc:
            not_finite = isinstance(value, float) and not math.isfinite(value)
            message = f"must be a finite number, got {value}" if not_finite else f"cannot be sent as JSON: {exc}"
            raise InvalidRequestError(INVALID_STATUS, "invalid_request", "", {name: message}) from exc


def checked_idempotency_key(key: str) -> str:
    """Return an idempotency key that a header can carry.

    Raises:
        InvalidRequestError: it cannot.
    """
    if not (isinstance(key, str) and key.isascii() and key.isprintable()):
        message = "an idempotency key must be printable ASCII"
        raise InvalidRequestError(INVALID_STATUS, "invalid_request", message)
    return key
