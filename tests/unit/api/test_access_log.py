"""The access log: one line per request, on request, without secrets."""

from __future__ import annotations

import logging
import re

import pytest

from api.app import create_app
from api.context import EXTENSION
from tests.unit.api.conftest import Harness


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "api.access_log"]


def test_each_request_is_logged_with_method_path_status_and_duration(
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    settings = harness.app.extensions[EXTENSION].settings.model_copy(update={"access_log": True})
    client = create_app(settings, db=harness.db, store=harness.store, broker=harness.queue).test_client()
    with caplog.at_level(logging.INFO):
        client.get("/healthz")
        client.post("/v1/s3-events?token=very-secret", data=b"{}")
        client.get("/v1/jobs/job_%0Afaked line")
        client.get("/healthz", headers={"Host": "evil.example"})
    assert [re.sub(r"[\d.]+ ms$", "N ms", line) for line in lines(caplog)] == [
        "GET /healthz 200 N ms",
        "POST /v1/s3-events 403 N ms",
        r"GET /v1/jobs/job_\nfaked line 404 N ms",
        "GET /healthz 400 N ms",
    ]
    assert "very-secret" not in caplog.text


def test_by_default_nothing_is_logged(harness: Harness, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        harness.client.get("/healthz")
    assert lines(caplog) == []
