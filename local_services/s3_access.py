"""Whom an S3 endpoint refuses, and how: unknown access keys and requests with a wrong time.

The test server behind the proxy checks neither. Documents and status codes are those of the S3 API reference; a HEAD
request gets the status alone, since it has no body.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

MAX_SKEW_S = 900.0
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")
_MESSAGES = {
    "InvalidAccessKeyId": "The AWS Access Key Id you provided does not exist in our records.",
    "SignatureDoesNotMatch": "The request signature we calculated does not match the signature you provided.",
    "AccessDenied": "Access Denied",
    "RequestTimeTooSkewed": "The difference between the request time and the current time is too large.",
}


@dataclass(frozen=True)
class Refusal:
    """An answer of the store: an HTTP status and a code of S3."""

    code: str
    status: int = 403

    def document(self) -> bytes:
        """Return the body, XML."""
        message = _MESSAGES.get(self.code, self.code)
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{self.code}</Code><Message>{message}</Message>'
            "<RequestId>0</RequestId><HostId>0</HostId></Error>"
        ).encode()


@dataclass
class S3Access:
    """Decides which requests are refused.

    Attributes:
        refused: code of the refusal by access key.
        max_skew_s: how far the time of a signed request may be off; S3 allows 900 s.
        clock: seconds since the epoch.
    """

    refused: dict[str, str] = field(default_factory=dict)
    max_skew_s: float = MAX_SKEW_S
    clock: Callable[[], float] = time.time

    def refusal(self, path: str, headers: Mapping[str, str]) -> Refusal | None:
        """Return how a request is refused, None when it is allowed."""
        query = parse_qs(urlsplit(path).query)
        given = {name.lower(): value for name, value in headers.items()}
        key = _access_key(given, query)
        if key in self.refused:
            return Refusal(self.refused[key])
        # A signed URL is valid from its date on, for as long as it says: only signed headers must be of now.
        signed_at = _signing_time(given.get("x-amz-date", ""))
        if signed_at is not None and abs(signed_at - self.clock()) > self.max_skew_s:
            return Refusal("RequestTimeTooSkewed")
        return None


def _access_key(headers: Mapping[str, str], query: Mapping[str, list[str]]) -> str:
    found = _CREDENTIAL.search(headers.get("authorization", ""))
    if found is not None:
        return found[1]
    return query.get("X-Amz-Credential", [""])[0].partition("/")[0]


def _signing_time(text: str) -> float | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
