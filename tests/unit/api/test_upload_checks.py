"""Checks of content sent directly to the store: one per upload, and no request waits long."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from api.context import EXTENSION
from api.upload_checks import MAX_CHECKS, MAX_WAITING, UploadCheckPendingError, UploadChecks
from tests.unit.api.conftest import Harness

PATIENCE_S = 60


def test_a_check_gives_its_result_and_its_error() -> None:
    checks, done = UploadChecks(PATIENCE_S), []
    checks.run("upl_1", lambda: done.append(1))
    assert done == [1]
    with pytest.raises(ZeroDivisionError):
        checks.run("upl_1", lambda: 1 / 0)  # type: ignore[arg-type, return-value]


def test_a_store_that_hangs_holds_few_requests_and_no_check_runs_twice() -> None:
    checks, release, runs = UploadChecks(0.01), threading.Event(), []

    def hang() -> None:
        runs.append(1)
        release.wait(PATIENCE_S)

    for _ in range(3):
        with pytest.raises(UploadCheckPendingError):
            checks.run("upl_1", hang)
    assert len(runs) == 1
    for number in range(2, MAX_CHECKS + 1):
        with pytest.raises(UploadCheckPendingError):
            checks.run(f"upl_{number}", hang)
    refused: list[str] = []
    with pytest.raises(UploadCheckPendingError):
        checks.run("upl_more", lambda: refused.append("ran"))
    release.set()
    checks.wait_s = PATIENCE_S
    checks.run("upl_1", hang)
    assert refused == []


def test_few_requests_wait_at_once() -> None:
    checks, release, begun = UploadChecks(PATIENCE_S), threading.Event(), threading.Semaphore(0)

    def hang() -> None:
        begun.release()
        assert release.wait(PATIENCE_S)

    with ThreadPoolExecutor(MAX_WAITING) as pool:
        waiting = [pool.submit(checks.run, "upl_1", hang) for _ in range(MAX_WAITING)]
        assert begun.acquire(timeout=PATIENCE_S)
        while checks._waiting._value:
            pass
        with pytest.raises(UploadCheckPendingError):
            checks.run("upl_2", lambda: None)
        release.set()
        for each in waiting:
            each.result(PATIENCE_S)


def test_a_request_whose_check_takes_long_may_be_sent_again(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    def pending(*_: Any) -> None:
        raise UploadCheckPendingError("Upload is still being checked.")

    upload_id = harness.client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json["id"]  # type: ignore[index]
    monkeypatch.setattr(harness.app.extensions[EXTENSION].upload_checks, "run", pending)
    answer = harness.client.post("/v1/jobs", json={"video": upload_id})
    assert (answer.status_code, (answer.json or {})["code"]) == (503, "upload_check_pending")
    assert int(answer.headers["Retry-After"]) > 0
    assert (harness.client.get(f"/v1/uploads/{upload_id}").json or {})["state"] == "pending"
