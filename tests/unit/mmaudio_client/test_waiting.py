"""Watching and waiting for a job: they end when it has, and outlast a short outage."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

from mmaudio_client import JobCanceledError, JobFailedError, UnavailableError, WaitTimeoutError
from mmaudio_client.waiting import LONG_POLL_S
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    MORE_THAN_PATIENCE,
    URL,
    Answer,
    ScriptedServer,
    job,
    job_answer,
)

OUTAGE: list[Callable[[], Answer]] = [
    lambda: httpx.Response(503),
    lambda: httpx.ConnectError("refused"),
    lambda: httpx.RemoteProtocolError("no answer"),
]


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
def test_watching_gives_each_look_and_ends_with_the_job(server: ScriptedServer, end: str) -> None:
    server.answers = [job_answer(), job_answer("running"), job_answer(end)]
    seen = [job.state for job in server.client().watch(job(), every_s=0.25)]
    assert seen == ["queued", "queued", "running", end]
    assert server.naps == [0.25] * 3
    assert server.asked == [f"GET {URL}/v1/jobs/{JOB_ID}"] * 3


@pytest.mark.parametrize("end", ["succeeded", "failed", "canceled"])
def test_watching_an_ended_job_asks_nothing(server: ScriptedServer, end: str) -> None:
    assert [job.state for job in server.client().watch(job(end))] == [end]
    assert (server.requests, server.naps) == ([], [])


def test_watching_outlasts_a_short_outage(server: ScriptedServer) -> None:
    server.answers = [job_answer("running"), *(trouble() for trouble in OUTAGE), job_answer("succeeded")]
    assert [job.state for job in server.client().watch(job())] == ["queued", "running", "succeeded"]


def test_watching_through_a_long_outage_says_that_the_server_is_away(server: ScriptedServer) -> None:
    server.answers = [httpx.ConnectError("refused") for _ in range(MORE_THAN_PATIENCE)]
    with pytest.raises(
        UnavailableError, match=rf"Cannot connect.+tried \d+ times in 180 s\)\. Job {JOB_ID} continues\."
    ):
        list(server.client().watch(job()))


def test_watching_follows_the_link_of_the_job(server: ScriptedServer) -> None:
    server.answers = [job_answer("succeeded")]
    list(server.client().watch(job(links={"self": "/elsewhere/1", "cancel": None, "retry": None})))
    assert server.asked == [f"GET {URL}/elsewhere/1"]


def test_waiting_returns_the_job_that_succeeded(server: ScriptedServer) -> None:
    server.answers = [job_answer("running"), job_answer("succeeded")]
    done = server.client().wait(job())
    assert (done.state, [artifact.name for artifact in done.artifacts]) == ("succeeded", ["audio.flac"])
    assert [request.url.params["wait"] for request in server.requests] == [f"{LONG_POLL_S:g}"] * 2


def test_waiting_for_a_failed_job_raises_with_its_own_words(server: ScriptedServer) -> None:
    server.answers = [job_answer("failed")]
    with pytest.raises(JobFailedError, match=r"^The file is empty\.$") as failed:
        server.client().wait(job())
    assert failed.value.job.raw["error"]["code"] == "media_invalid"


def test_waiting_for_a_canceled_job_raises(server: ScriptedServer) -> None:
    server.answers = [job_answer("canceled")]
    with pytest.raises(JobCanceledError, match=f"{JOB_ID} was canceled") as canceled:
        server.client().wait(job())
    assert canceled.value.job.state == "canceled"


def test_waiting_for_an_ended_job_asks_nothing(server: ScriptedServer) -> None:
    assert server.client().wait(job("succeeded")).state == "succeeded"
    with pytest.raises(JobFailedError):
        server.client().wait(job("failed"))
    assert server.requests == []


def test_waiting_outlasts_a_short_outage(server: ScriptedServer) -> None:
    server.answers = [*(trouble() for trouble in OUTAGE), job_answer("succeeded")]
    assert server.client().wait(job()).state == "succeeded"


def test_waiting_ends_when_the_time_is_over_and_asks_for_no_more_than_what_is_left(server: ScriptedServer) -> None:
    now = 100.0

    def answer_late(request: httpx.Request) -> httpx.Response:
        nonlocal now
        now += float(request.url.params["wait"])
        return job_answer("running")

    server.answers = [answer_late, answer_late]
    with pytest.raises(WaitTimeoutError, match="still running after 40 s; it continues"):
        server.client().wait(job(), timeout_s=40, clock=lambda: now)
    assert [request.url.params["wait"] for request in server.requests] == ["30", "10"]


def test_waiting_and_watching_take_an_id(server: ScriptedServer) -> None:
    server.answers = [job_answer(), job_answer("succeeded"), job_answer("running"), job_answer("succeeded")]
    client = server.client()
    assert client.wait(JOB_ID).state == "succeeded"
    assert [found.state for found in client.watch(JOB_ID)] == ["running", "succeeded"]
    assert [request.url.path for request in server.requests] == [f"/v1/jobs/{JOB_ID}"] * 4


def test_watching_several_jobs_ends_with_the_last(server: ScriptedServer) -> None:
    first, second, third = job(id="job_a"), job(id="job_b"), job("succeeded", id="job_c")
    server.answers = [
        job_answer("running", id="job_a"),
        job_answer("failed", id="job_b"),
        job_answer("succeeded", id="job_a"),
    ]
    seen = [(found.id, found.state) for found in server.client().watch_all([first, second, third], every_s=0.25)]
    assert seen == [("job_a", "running"), ("job_b", "failed"), ("job_c", "succeeded"), ("job_a", "succeeded")]
    assert server.naps == [0.25]


def test_many_jobs_are_looked_at_less_often(server: ScriptedServer) -> None:
    many = [job(id=f"job_{n}") for n in range(100)]
    server.answers = [job_answer(id=found.id) for found in many]
    server.answers += [job_answer("succeeded", id=found.id) for found in many]
    assert len(list(server.client().watch_all(many))) == 200
    assert server.naps == [2.0]
