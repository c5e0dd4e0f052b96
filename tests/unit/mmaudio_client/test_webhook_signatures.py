"""Webhooks are taken only with a signature of the endpoint's secret and a time near now."""

from __future__ import annotations

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from mmaudio_client import InvalidWebhookError, verify_webhook

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
OTHER = "whsec_" + base64.b64encode(b"another secret of 32 bytes.......").decode()
NOW = 1_800_000_000.0
BODY = b'{"type": "job.succeeded", "data": {"id": "job_1", "prompt": "\xe9\x9b\xa8"}}'


def headers(secret: str = SECRET, *, body: bytes = BODY, at: float = NOW, **changes: str) -> dict[str, str]:
    """The headers that the library of the standard makes."""
    signature = Webhook(secret).sign(
        "msg_1", datetime.fromtimestamp(at, UTC), body.decode("latin-1").encode("latin-1").decode()
    )
    return {
        "Content-Type": "application/json",
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(at)),
        "Webhook-Signature": signature,
        **changes,
    }


def verify(given: dict[str, str], body: bytes | str = BODY, secret: str | list[str] = SECRET) -> object:
    return verify_webhook(given, body, secret, clock=lambda: NOW)


def test_a_signed_webhook_gives_its_document() -> None:
    assert verify(headers()) == {"type": "job.succeeded", "data": {"id": "job_1", "prompt": "雨"}}
    assert verify(headers(), BODY.decode()) == verify(headers())
    assert verify(headers(), secret=SECRET.removeprefix("whsec_").rstrip("=")) == verify(headers())


def test_while_a_secret_is_rotated_either_signature_counts() -> None:
    both = f"{headers(OTHER)['Webhook-Signature']} v1a,AAAA v1,??? {headers()['Webhook-Signature']}"
    assert verify(headers(**{"Webhook-Signature": both}))
    assert verify(headers(OTHER), secret=[SECRET, OTHER])


@pytest.mark.parametrize(
    "given",
    [
        headers(OTHER),
        headers(**{"Webhook-Id": "msg_2"}),
        headers(**{"Webhook-Timestamp": str(int(NOW) + 1)}),
        headers(**{"Webhook-Signature": headers()["Webhook-Signature"].replace("v1,", "v2,")}),
        headers(**{"Webhook-Signature": "v1,"}),
        headers(**{"Webhook-Signature": "nonsense"}),
        headers(**{"Webhook-Id": "\udcff"}),
        headers(body=b'{"other": 1}'),
    ],
)
def test_a_webhook_with_another_signature_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(InvalidWebhookError, match="not by this secret"):
        verify(given)


def test_a_changed_body_is_refused() -> None:
    with pytest.raises(InvalidWebhookError):
        verify(headers(), BODY.replace(b"job_1", b"job_2"))


@pytest.mark.parametrize(("at", "said"), [(NOW - 301, "301 s old"), (NOW + 301, "301 s ahead of")])
def test_a_webhook_of_another_time_is_refused(at: float, said: str) -> None:
    with pytest.raises(InvalidWebhookError, match=said):
        verify(headers(at=at))
    assert verify_webhook(headers(at=at), BODY, SECRET, tolerance_s=400, clock=lambda: NOW)


@pytest.mark.parametrize("name", ["Webhook-Id", "Webhook-Timestamp", "Webhook-Signature"])
def test_a_request_without_a_header_is_no_webhook(name: str) -> None:
    with pytest.raises(InvalidWebhookError, match=name.lower()):
        verify({key: value for key, value in headers().items() if key != name})


def test_a_body_that_is_not_json_is_refused() -> None:
    with pytest.raises(InvalidWebhookError, match="not JSON"):
        verify(headers(body=b"pong"), b"pong")


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_*", []])
def test_a_secret_that_can_be_none_is_a_fault_of_the_program_and_not_shown(secret: str | list[str]) -> None:
    with pytest.raises(ValueError, match="secret") as caught:
        verify(headers(), secret=secret)
    assert not isinstance(caught.value, InvalidWebhookError)
    assert "*" not in str(caught.value)
