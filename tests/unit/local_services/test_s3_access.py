"""The stand-in for a store's access control refuses what S3 refuses."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from local_services.s3_access import S3Access

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC).timestamp()
SIGNED = "AWS4-HMAC-SHA256 Credential={key}/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0"


def code(access: S3Access, path: str = "/b/k", **headers: str) -> str | None:
    refusal = access.refusal(path, headers)
    return refusal.code if refusal else None


def test_only_the_access_key_that_is_named_is_refused_in_headers_and_in_signed_urls() -> None:
    access = S3Access(refused={"bad": "SignatureDoesNotMatch"}, clock=lambda: NOW)
    assert code(access, Authorization=SIGNED.format(key="bad")) == "SignatureDoesNotMatch"
    assert code(access, Authorization=SIGNED.format(key="good")) is None
    assert code(access, "/b/k?X-Amz-Credential=bad%2F20260101%2Fus-east-1%2Fs3%2Faws4_request") is not None
    assert code(access, "/b/k?X-Amz-Credential=good%2F20260101") is None
    assert code(access) is None


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("20260101T121400Z", None),
        ("20260101T114600Z", None),
        ("20260101T122000Z", "RequestTimeTooSkewed"),
        ("20260101T114000Z", "RequestTimeTooSkewed"),
        ("no date", None),
    ],
)
def test_a_request_that_was_signed_15_minutes_off_is_refused(date: str, expected: str | None) -> None:
    assert code(S3Access(clock=lambda: NOW), **{"X-Amz-Date": date}) == expected
