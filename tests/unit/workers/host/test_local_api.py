"""What `mmaudio up` learns from its own API while it starts and stops."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from jobs.settings import Settings
from workers.host import local_api
from workers.host.local_api import LocalApi, base_url


class Answers(httpx.BaseTransport):
    """Answers as the API does; `workers` is None while it does not."""

    workers: list[dict[str, object]] | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if self.workers is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json={"data": self.workers})


@pytest.fixture
def answers() -> Answers:
    return Answers()


@pytest.fixture
def api(answers: Answers, monkeypatch: pytest.MonkeyPatch) -> Iterator[LocalApi]:
    monkeypatch.setattr(local_api, "POLL_EVERY_S", 0.0)
    api = LocalApi(Settings(), transport=answers)
    yield api
    api.close()


def worker(state: str, *jobs: str) -> dict[str, object]:
    return {"state": state, "device": "cpu:0", "variants": ["tiny_16k", "small_16k"], "running_jobs": list(jobs)}


def test_before_the_api_answers_nothing_is_known(api: LocalApi) -> None:
    assert not api.is_ready()
    assert api.startup_state() == "waiting for the API"
    assert api.running_job_count() is None


def test_the_state_of_the_start_names_what_it_waits_for(api: LocalApi, answers: Answers) -> None:
    answers.workers = []
    assert api.startup_state() == "the API is ready; waiting for a worker to start"
    answers.workers = [worker("starting")]
    assert api.startup_state() == "the API is ready; loading tiny_16k on cpu:0"
    assert not api.is_ready()


@pytest.mark.parametrize(("state", "ready"), [("idle", True), ("busy", True), ("draining", False), ("lost", False)])
def test_it_is_ready_when_a_worker_takes_jobs(api: LocalApi, answers: Answers, state: str, ready: bool) -> None:
    answers.workers = [worker("starting"), worker(state)]
    assert api.is_ready() is ready


def test_running_jobs_of_all_workers_are_counted(api: LocalApi, answers: Answers) -> None:
    answers.workers = [worker("busy", "j1", "j2"), worker("draining", "j3"), worker("idle")]
    assert api.running_job_count() == 3


def test_another_program_that_answers_is_not_the_api(api: LocalApi, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Answers, "handle_request", lambda *_: httpx.Response(200, text="<html>"))
    assert api.startup_state() == "waiting for the API"


def test_a_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.invalid:1")
    api = LocalApi(Settings())
    assert not api._client._mounts
    api.close()


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:80", "http://[::1]:80"),
        ("[::1]:80", "http://[::1]:80"),
        ("localhost:80", "http://localhost:80"),
    ],
)
def test_the_url_is_one_that_this_machine_reaches(bind: str, url: str) -> None:
    assert base_url(Settings(api_bind=bind)) == url
