"""What is sent again, after which pause, and when the client gives up."""

from __future__ import annotations

import json

import httpx
import pytest

from mmaudio_client import ApiError, UnavailableError, UnreachableError
from mmaudio_client.blocking import run_blocking
from mmaudio_client.driver import BlockingDriver
from mmaudio_client.outage import DEFAULT_PATIENCE_S
from mmaudio_client.transport import LONGEST_RETRY_AFTER_S, TRIES, Transport
from tests.unit.mmaudio_client.scripted_server import (
    MORE_THAN_PATIENCE,
    URL,
    Answer,
    ScriptedServer,
    job_answer,
    problem,
)

NEVER_REACHED: list[Exception] = [httpx.ConnectError("refused"), httpx.ConnectTimeout("")]
BROKEN: list[Exception] = [httpx.ReadTimeout(""), httpx.ReadError("reset"), httpx.RemoteProtocolError("no answer")]


def passing(status: int) -> httpx.Response:
    return problem(status, "storage_unavailable", "The storage does not answer.")


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_refusal_that_passes_is_tried_again_with_the_same_idempotency_key(
    server: ScriptedServer, status: int
) -> None:
    server.answers = [passing(status), passing(status), job_answer()]
    assert server.client().submit(prompt="rain").state == "queued"
    keys = {request.headers["Idempotency-Key"] for request in server.requests}
    assert (len(server.requests), len(keys), len(server.naps)) == (3, 1, 2)
    assert [json.loads(request.content) for request in server.requests] == [{"prompt": "rain"}] * 3


@pytest.mark.parametrize("trouble", [*NEVER_REACHED, *BROKEN], ids=lambda trouble: type(trouble).__name__)
def test_a_lost_connection_is_tried_again_with_the_same_idempotency_key(
    server: ScriptedServer, trouble: Exception
) -> None:
    server.answers = [trouble, job_answer()]
    assert server.client().submit(prompt="rain").state == "queued"
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1


def test_each_submission_draws_a_key_of_its_own_unless_one_is_given(server: ScriptedServer) -> None:
    server.answers = [job_answer(), job_answer(), job_answer()]
    client = server.client()
    client.submit(prompt="rain")
    client.submit(prompt="rain")
    client.submit(prompt="rain", idempotency_key="mine")
    first, second, third = (request.headers["Idempotency-Key"] for request in server.requests)
    assert first != second
    assert third == "mine"


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_trigger_that_may_have_been_created_is_not_sent_twice(server: ScriptedServer, status: int) -> None:
    server.answers = [passing(status)]
    with pytest.raises(ApiError) as refused:
        server.client().triggers.add("videos")
    assert (refused.value.status, len(server.requests), server.naps) == (status, 1, [])


@pytest.mark.parametrize("trouble", BROKEN, ids=lambda trouble: type(trouble).__name__)
def test_a_trigger_whose_answer_was_lost_is_not_sent_twice(server: ScriptedServer, trouble: Exception) -> None:
    server.answers = [trouble]
    with pytest.raises(UnavailableError, match="broke"):
        server.client().triggers.add("videos")
    assert (len(server.requests), server.naps) == (1, [])


@pytest.mark.parametrize("number", range(len(NEVER_REACHED) + 1))
def test_a_trigger_that_was_surely_not_created_is_sent_again(server: ScriptedServer, number: int) -> None:
    troubles: list[Answer] = [*NEVER_REACHED, passing(429)]
    server.answers = [troubles[number], httpx.Response(201, json={"id": "trg_1"})]
    assert server.client().triggers.add("videos")["id"] == "trg_1"


@pytest.mark.parametrize("trouble", [*BROKEN, passing(503)])
def test_a_retry_of_a_job_is_sent_again_with_the_same_idempotency_key(server: ScriptedServer, trouble: Answer) -> None:
    server.answers = [job_answer("failed"), trouble, job_answer()]
    assert server.client().retry("job_1").state == "queued"
    first, second = (request.headers["Idempotency-Key"] for request in server.requests[1:])
    assert first == second


def test_a_server_that_stays_busy_is_a_refusal(server: ScriptedServer) -> None:
    server.answers = [problem(429, "queue_full", "The queue is full.") for _ in range(TRIES)]
    with pytest.raises(ApiError, match=f"The queue is full.*tried {TRIES} times") as refused:
        server.client().submit(prompt="rain")
    assert (refused.value.status, refused.value.code) == (429, "queue_full")


@pytest.mark.parametrize("patient", [None, 60.0])
def test_a_restart_that_the_first_call_ran_into_is_waited_out(server: ScriptedServer, patient: float | None) -> None:
    client = server.client(wait_for_server=False, patience_s=patient)
    server.answers = [
        httpx.RemoteProtocolError("no answer"),
        *[httpx.ConnectError("refused")] * (TRIES + 1),
        job_answer(),
    ]
    assert client.submit(prompt="rain").state == "queued"
    assert len({request.headers["Idempotency-Key"] for request in server.requests}) == 1


@pytest.mark.parametrize("trouble", NEVER_REACHED, ids=lambda trouble: type(trouble).__name__)
def test_a_client_that_does_not_wait_for_the_server_fails_at_once_until_it_has_answered(
    server: ScriptedServer, trouble: Exception
) -> None:
    client = server.client(wait_for_server=False)
    server.answers = [trouble, job_answer("running"), trouble, trouble, job_answer("succeeded")]
    with pytest.raises(UnreachableError, match="Cannot connect"):
        client.get("job_1")
    assert server.naps == []
    assert [client.get("job_1").state for _ in range(2)] == ["running", "succeeded"]
    assert len(server.naps) == 2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 413, 422, 500, 507])
def test_a_refusal_that_stays_is_not_tried_again(server: ScriptedServer, status: int) -> None:
    server.answers = [problem(status)]
    with pytest.raises(ApiError) as refused:
        server.client().get("job_1")
    assert (refused.value.status, len(server.requests), server.naps) == (status, 1, [])


def test_after_the_last_try_the_error_says_what_was_wrong_and_how_often(server: ScriptedServer) -> None:
    server.answers = [passing(503) for _ in range(MORE_THAN_PATIENCE)]
    with pytest.raises(UnavailableError, match=r"The storage does not answer.*tried (\d+) times in 180 s") as given_up:
        server.client().get("job_1")
    assert f"tried {len(server.requests)} times" in str(given_up.value)
    assert sum(server.naps) == pytest.approx(DEFAULT_PATIENCE_S, abs=5)


@pytest.mark.parametrize("trouble", NEVER_REACHED, ids=lambda trouble: type(trouble).__name__)
def test_a_server_that_was_never_reached_is_named(server: ScriptedServer, trouble: Exception) -> None:
    server.answers = [trouble] * TRIES
    with pytest.raises(UnavailableError, match=f"Cannot connect to {URL}: .+tried {TRIES} times"):
        server.client().get("job_1")


@pytest.mark.parametrize(
    ("luck", "pauses"),
    [(1.0, [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 4.5]), (0.0, [0.25, 0.5, 1, 2, 4, *[5.0] * 6, 2.25])],
)
def test_pauses_grow_and_are_shortened_by_chance_to_no_less_than_half(luck: float, pauses: list[float]) -> None:
    naps: list[float] = []
    with httpx.Client(base_url=URL, transport=httpx.MockTransport(lambda _: passing(503))) as http:
        driver = BlockingDriver(http, sleep=naps.append)
        calls = Transport(driver, clock=lambda: 0.0, rng=lambda: luck, patience_s=40)
        with pytest.raises(UnavailableError):
            run_blocking(calls.call("GET", "/v1/queue", again=True))
    assert naps == pauses


@pytest.mark.parametrize(("given", "pause"), [("7", 7.0), ("0", 0.0), ("86400", LONGEST_RETRY_AFTER_S)])
def test_the_servers_own_pause_is_kept_up_to_a_limit(server: ScriptedServer, given: str, pause: float) -> None:
    server.answers = [problem(429, headers={"Retry-After": given}), job_answer()]
    server.client().submit(prompt="rain")
    assert server.naps == [pause]


@pytest.mark.parametrize(
    ("date", "given", "pause"),
    [
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:40 GMT", 40.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 09:28:40 GMT", LONGEST_RETRY_AFTER_S),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:27:00 GMT", 0.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:05 -0000", 5.0),
        ("no date", "Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
    ],
)
def test_a_pause_may_be_a_date(server: ScriptedServer, date: str, given: str, pause: float) -> None:
    server.answers = [problem(429, headers={"Date": date, "Retry-After": given}), job_answer()]
    server.client().submit(prompt="rain")
    assert server.naps == [pause]


@pytest.mark.parametrize("given", ["", "-1", "1.5", "soon", "²", "Wed, 21 Oct 2026 07:28:00 GMT"])
def test_a_pause_that_is_no_number_of_seconds_gives_way_to_our_own(server: ScriptedServer, given: str) -> None:
    header = [(b"Retry-After", given.encode("latin-1"))]
    server.answers = [httpx.Response(503, headers=header), job_answer()]
    server.client().get("job_1")
    assert len(server.naps) == 1
    assert 0.25 <= server.naps[0] <= 0.5


def test_the_time_for_an_answer_is_what_was_asked_for_beside_the_wait(server: ScriptedServer) -> None:
    server.answers = [job_answer(), job_answer()]
    client = server.client(timeout_s=2)
    client.get("job_1")
    client.get("job_1", wait_s=20)
    assert [request.extensions["timeout"]["read"] for request in server.requests] == [2, 22]
