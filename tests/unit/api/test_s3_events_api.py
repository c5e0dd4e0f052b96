"""`/v1/s3-events`: authentication, answers, and that no event is lost."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from sqlalchemy.exc import OperationalError

from api.app import create_app
from api.context import EXTENSION
from api.sns import SnsGate, SnsRefusedError
from jobs.settings import Settings
from tests.bucket_events import FORMS, aws, sample
from tests.in_memory_bucket import BUCKET
from tests.unit.api.conftest import EVENTS_TOKEN, Harness

BEARER = {"Authorization": f"Bearer {EVENTS_TOKEN}"}
BASIC = base64.b64encode(f"sns:{EVENTS_TOKEN}".encode()).decode()
CERTIFICATE_URL = "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-1.pem"


def post(harness: Harness, document: Any, headers: dict[str, str] = BEARER, path: str = "/v1/s3-events") -> Any:
    return harness.client.post(path, data=json.dumps(document), headers=headers, content_type="text/plain")


def trigger(harness: Harness, **fields: Any) -> str:
    answer = harness.client.post("/v1/triggers", json={"bucket": BUCKET, **fields})
    assert answer.status_code == 201, answer.json
    return str((answer.json or {})["id"])


def jobs(harness: Harness) -> list[str]:
    return [job["request"]["video"] for job in (harness.client.get("/v1/jobs").json or {})["data"]]


@pytest.mark.parametrize("form", [form for form in FORMS if form != "sns"])
def test_a_posted_event_becomes_one_published_job_however_often_it_comes(harness: Harness, form: str) -> None:
    harness.add_worker()
    trigger(harness)
    stored = harness.bucket_contents.put("in/a b+ü.mp4")
    event = FORMS[form](BUCKET, stored.key, etag=stored.etag)
    first, second = post(harness, event), post(harness, event)
    assert (first.status_code, first.json) == (200, {"submitted": 1, "skipped": 0, "held": 0, "duplicates": 0})
    assert second.json == {"submitted": 0, "skipped": 0, "held": 0, "duplicates": 1}
    assert jobs(harness) == ["s3://videos/in/a b+ü.mp4"]
    assert len(harness.queue.published) == 1


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        (BEARER, ""),
        ({"Authorization": EVENTS_TOKEN}, ""),
        ({"Authorization": f"Basic {BASIC}"}, ""),
        ({"X-MMAudio-Events-Token": EVENTS_TOKEN}, ""),
        ({}, f"?token={quote(EVENTS_TOKEN)}"),
    ],
)
def test_the_token_may_come_in_each_way_that_senders_know(
    harness: Harness, headers: dict[str, str], query: str
) -> None:
    assert post(harness, sample("test_event"), headers, f"/v1/s3-events{query}").status_code == 200


@pytest.mark.parametrize(
    ("headers", "query"),
    [
        ({}, ""),
        ({"Authorization": "Bearer another"}, ""),
        ({"Authorization": "Basic !!"}, ""),
        ({"X-MMAudio-Events-Token": ""}, ""),
        ({"X-MMAudio-Events-Token": "ü"}, ""),
        ({}, "?token="),
    ],
)
def test_events_without_the_token_are_refused(harness: Harness, headers: dict[str, str], query: str) -> None:
    trigger(harness)
    stored = harness.bucket_contents.put("a.mp4")
    answer = post(harness, aws(BUCKET, "a.mp4", etag=stored.etag), headers, f"/v1/s3-events{query}")
    assert (answer.status_code, answer.json["code"], jobs(harness)) == (403, "events_refused", [])


def test_without_a_configured_token_events_are_refused(harness: Harness) -> None:
    app = create_app(
        Settings(data_dir=harness.app.extensions[EXTENSION].settings.data_dir),
        db=harness.db,
        store=harness.store,
        broker=harness.queue,
    )
    answer = app.test_client().post("/v1/s3-events", json=sample("test_event"), headers={"Authorization": "Bearer "})
    assert (answer.status_code, "MMAUDIO_S3_EVENTS_TOKEN" in (answer.json or {})["detail"]) == (403, True)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_the_probe_of_minio_is_answered(harness: Harness, method: str) -> None:
    assert harness.client.open("/v1/s3-events", method=method).status_code == 200


@pytest.mark.parametrize("body", [b"", b"{", b"7", b'{"hello": 1}', b'{"Records": [{}]}', b"[" * 50_000])
def test_a_body_that_is_not_an_event_gets_a_problem_document(harness: Harness, body: bytes) -> None:
    answer = harness.client.post("/v1/s3-events", data=body, headers=BEARER)
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert (answer.json or {})["code"] == "event_unreadable"


def test_a_body_beyond_the_limit_is_refused(harness: Harness) -> None:
    assert harness.client.post("/v1/s3-events", data=b" " * (1024**2 + 1), headers=BEARER).status_code == 413


def test_events_are_acknowledged_only_after_the_commit(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    trigger(harness)
    stored = harness.bucket_contents.put("a.mp4")
    event = aws(BUCKET, "a.mp4", etag=stored.etag)

    def breaks(*_: Any, **__: Any) -> Any:
        raise OperationalError("INSERT", {}, Exception("the server went away"))

    with monkeypatch.context() as patched:
        patched.setattr("jobs.triggers.recording.submit", breaks)
        answer = post(harness, event)
    assert (answer.status_code, answer.json["down"]) == (503, ["database"])
    assert post(harness, event).json["submitted"] == 1


def test_a_store_that_is_down_does_not_lose_the_event(harness: Harness) -> None:
    trigger(harness)
    stored = harness.bucket_contents.put("a.mp4")
    harness.bucket_contents.down = True
    assert post(harness, aws(BUCKET, "a.mp4", etag=stored.etag)).json["held"] == 1


class FakeSns:
    """Signs messages and serves its certificate, as SNS does."""

    def __init__(self, *, days: int = 30) -> None:
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sns.amazonaws.com")])
        until = datetime.now(UTC) + timedelta(days=days)
        self.pem = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self.key.public_key())
            .serial_number(1)
            .not_valid_before(until - timedelta(days=60))
            .not_valid_after(until)
            .sign(self.key, SHA256())
            .public_bytes(Encoding.PEM)
        )
        self.asked: list[str] = []

    def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return self.pem if url.endswith(".pem") else b"<ConfirmSubscriptionResponse/>"

    def signed(self, document: dict[str, Any], version: str = "2") -> dict[str, Any]:
        """Sign as SNS's documentation says: these names in this order, those that are there."""
        names = ["Message", "MessageId", "Subject", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"]
        if document["Type"] == "Notification":
            names = [name for name in names if name not in {"SubscribeURL", "Token"}]
        text = "".join(f"{name}\n{document[name]}\n" for name in names if name in document)
        hashes: dict[str, HashAlgorithm] = {"1": SHA1(), "2": SHA256()}
        signature = self.key.sign(text.encode(), padding.PKCS1v15(), hashes[version])
        return {
            **document,
            "SignatureVersion": version,
            "Signature": base64.b64encode(signature).decode(),
            "SigningCertURL": CERTIFICATE_URL,
        }


@pytest.fixture(scope="module")
def amazon() -> FakeSns:
    return FakeSns()


@pytest.fixture
def sns_harness(harness: Harness, amazon: FakeSns) -> Harness:
    amazon.asked.clear()
    harness.app.extensions[EXTENSION].sns = SnsGate(amazon.fetch)
    trigger(harness)
    return harness


def notification(harness: Harness) -> dict[str, Any]:
    stored = harness.bucket_contents.put("a.mp4")
    return dict(FORMS["sns"](BUCKET, "a.mp4", etag=stored.etag))


@pytest.mark.parametrize("version", ["1", "2"])
@pytest.mark.parametrize("subject", [True, False])
def test_a_notification_signed_by_sns_is_accepted(
    sns_harness: Harness, amazon: FakeSns, version: str, subject: bool
) -> None:
    document = notification(sns_harness)
    if not subject:
        del document["Subject"]
    assert post(sns_harness, amazon.signed(document, version)).json["submitted"] == 1
    post(sns_harness, amazon.signed(document, version))
    assert amazon.asked == [CERTIFICATE_URL], "the certificate is fetched once"


@pytest.mark.parametrize(
    "change",
    [
        {"Message": json.dumps(aws(BUCKET, "other.mp4", etag="e"))},
        {"Signature": "AAAA"},
        {"Signature": "no base64"},
        {"SignatureVersion": "3"},
        {"SigningCertURL": "https://sns.us-east-1.amazonaws.com.evil.example/a.pem"},
        {"SigningCertURL": "https://evil.example/sns.us-east-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "http://sns.us-east-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://sns.us-east-1.amazonaws.com/a\t.pem"},
        {"SigningCertURL": "https://sns.us-east-1.amazonaws.com/a\x00.pem"},
        {"SigningCertURL": "https://sns.us-east-1.amazonaws.com@evil.example/a.pem"},
        {"SigningCertURL": "https://user@sns.us-east-1.amazonaws.com/a.pem"},
        {"SigningCertURL": "https://sns.us-east-1.amazonaws.com:8443/a.pem"},
        {"SigningCertURL": "https://sns.us-east-1.amazonaws.com/a.txt"},
        {"SigningCertURL": "https://s3.amazonaws.com/bucket/a.pem"},
        {"SigningCertURL": "https://[bad/a.pem"},
    ],
)
def test_what_sns_did_not_sign_is_refused(sns_harness: Harness, amazon: FakeSns, change: dict[str, str]) -> None:
    answer = post(sns_harness, {**amazon.signed(notification(sns_harness)), **change})
    assert (answer.status_code, answer.json["code"], jobs(sns_harness)) == (403, "events_refused", [])
    assert all(url == CERTIFICATE_URL for url in amazon.asked), "no other address is asked"


def test_an_expired_certificate_is_refused() -> None:
    old = FakeSns(days=-1)
    with pytest.raises(SnsRefusedError, match="expired"):
        SnsGate(old.fetch).check(old.signed(sample("sns")))


def test_a_subscription_is_confirmed_at_sns(sns_harness: Harness, amazon: FakeSns) -> None:
    answer = post(sns_harness, amazon.signed(sample("sns_subscription")))
    assert answer.status_code == 200
    assert amazon.asked[-1].startswith("https://sns.us-east-1.amazonaws.com/?Action=ConfirmSubscription")


def test_a_subscription_is_confirmed_at_no_other_url(sns_harness: Harness, amazon: FakeSns) -> None:
    document = {**sample("sns_subscription"), "SubscribeURL": "https://evil.example/?Action=ConfirmSubscription"}
    assert post(sns_harness, amazon.signed(document)).status_code == 403
    assert amazon.asked == [CERTIFICATE_URL]


def test_an_unreachable_sns_gets_503_and_sends_again(harness: Harness) -> None:
    def away(url: str) -> bytes:
        raise httpx.ConnectError("no route")

    harness.app.extensions[EXTENSION].sns = SnsGate(away)
    answer = post(harness, sample("sns"))
    assert (answer.status_code, answer.json["down"]) == (503, ["sns"])
