"""Verifies webhooks of a server, and signs what a developer forwards.

Standard Webhooks 1.0 (https://www.standardwebhooks.com), signatures `v1`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mmaudio_client.errors import InvalidWebhookError

TOLERANCE_S = 300.0
"""Oldest and newest time of a webhook, against replays of an old one."""
_PREFIX = "whsec_"
_VERSION = "v1"
_ID, _TIMESTAMP, _SIGNATURE = "webhook-id", "webhook-timestamp", "webhook-signature"


def verify_webhook(
    headers: Mapping[str, str],
    body: bytes | str,
    secret: str | Iterable[str],
    *,
    tolerance_s: float = TOLERANCE_S,
    clock: Callable[[], float] = time.time,
) -> Any:
    """Return the document of a webhook that the server has signed.

    A webhook may come more than once; `webhook-id` is then the same.

    Args:
        headers: of the request; names in any case.
        body: of the request as it came: parsed and written again, it has another signature.
        secret: that of the endpoint (`whsec_...`); while it is rotated, the old one and the new one.
        tolerance_s: how much older or newer than now the webhook may be, in seconds.
        clock: the time, as `time.time`; for tests.

    Raises:
        InvalidWebhookError: the signature is not by one of the secrets, the time is not near now, or the request is
            no webhook. Answer it with 400 and do nothing else.
        ValueError: a secret cannot be one.
    """
    keys = [_key(one) for one in ((secret,) if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("Got no webhook secret; give that of the endpoint.")
    values = {name.lower(): value for name, value in headers.items()}
    missing = [name for name in (_ID, _TIMESTAMP, _SIGNATURE) if not values.get(name)]
    if missing:
        raise InvalidWebhookError(f"The request has no {' and no '.join(missing)}: it is not a webhook.")
    content = body.encode() if isinstance(body, str) else body
    signed = f"{values[_ID]}.{values[_TIMESTAMP]}.".encode("utf-8", "surrogateescape") + content
    expected = [hmac.digest(key, signed, hashlib.sha256) for key in keys]
    given = _signatures(values[_SIGNATURE])
    if not any(hmac.compare_digest(one, other) for one in expected for other in given):
        raise InvalidWebhookError("The signature of the webhook is not by this secret.")
    age_s = clock() - _timestamp(values[_TIMESTAMP])
    if abs(age_s) > tolerance_s:
        when = f"{age_s:.0f} s old" if age_s > 0 else f"{-age_s:.0f} s ahead of this machine's clock"
        raise InvalidWebhookError(f"The webhook is {when}; at most {tolerance_s:g} s are allowed.")
    try:
        return json.loads(content)
    except ValueError as exc:
        raise InvalidWebhookError("The body of the webhook is not JSON.") from exc


def new_webhook_secret() -> str:
    """Return a new secret."""
    return _PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def sign_webhook(message_id: str, body: str, secret: str, *, sent_at: float) -> dict[str, str]:
    """Return the headers of a webhook.

    Args:
        sent_at: seconds since 1970.

    Raises:
        ValueError: the secret cannot be one.
    """
    signed = f"{message_id}.{int(sent_at)}.{body}".encode()
    signature = base64.b64encode(hmac.digest(_key(secret), signed, hashlib.sha256)).decode()
    return {_ID: message_id, _TIMESTAMP: str(int(sent_at)), _SIGNATURE: f"{_VERSION},{signature}"}


def _key(secret: str) -> bytes:
    text = secret.strip().removeprefix(_PREFIX)
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"Got a webhook secret that is not {_PREFIX} and base64.")  # without showing it
    return key


def _signatures(header: str) -> list[bytes]:
    """Return the signatures of the known version; others may stand beside them."""
    found = []
    for entry in header.split():
        version, _, text = entry.partition(",")
        if version != _VERSION:
            continue
        try:
            found.append(base64.b64decode(text, validate=True))
        except (binascii.Error, ValueError):
            continue
    return found


def _timestamp(header: str) -> float:
    if not (header.isascii() and header.isdecimal() and len(header) < 16):
        raise InvalidWebhookError(f"Got the {_TIMESTAMP} {header[:40]!r}; it is seconds since 1970.")
    return float(header)
