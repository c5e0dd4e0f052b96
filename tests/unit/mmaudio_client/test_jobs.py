"""Submitting, listing, cancelling and retrying: by the links that the server gives."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from itertools import islice
from typing import Any

import httpx
import pytest

from mmaudio_client import ConflictError
from tests.unit.mmaudio_client.scripted_server import (
    URL,
    ScriptedServer,
    job,
    job_answer,
    job_document,
    page,
    problem,
)


def test_only_the_fields_that_were_given_are_sent(server: ScriptedServer) -> None:
    server.answers = [job_answer()]
    server.client().submit(prompt="", seed=0, mux=False, variant=None)
    assert server.asked == [f"POST {URL}/v1/jobs"]
    assert json.loads(server.requests[0].content) == {"prompt": "", "seed": 0, "mux": False}


def test_what_a_newer_server_adds_stays_readable(server: ScriptedServer) -> None:
    server.answers = [job_answer(colour="red")]
    answered = server.client().get("job_1")
    assert answered.raw["colour"] == "red"
    with pytest.raises(FrozenInstanceError):
        answered.state = "succeeded"  # type: ignore[misc]


def test_a_list_follows_the_links_until_there_is_none(server: ScriptedServer) -> None:
    server.answers = [
        page(job_document(id="a"), job_document(id="b"), following="/v1/jobs?limit=2&state=failed&cursor=1"),
        page(following="/v1/jobs?limit=2&state=failed&cursor=2"),
        page(job_document(id="c")),
    ]
    assert [found.id for found in server.client().list(limit=2, state="failed")] == ["a", "b", "c"]
    assert server.asked == [
        f"GET {URL}/v1/jobs?limit=2&state=failed",
        f"GET {URL}/v1/jobs?limit=2&state=failed&cursor=1",
        f"GET {URL}/v1/jobs?limit=2&state=failed&cursor=2",
    ]


def test_a_list_asks_for_the_next_page_only_when_it_is_wanted(server: ScriptedServer) -> None:
    server.answers = [page(job_document(id="a"), job_document(id="b"), following="/v1/jobs?cursor=1")]
    assert [found.id for found in islice(server.client().list(), 2)] == ["a", "b"]
    assert len(server.requests) == 1


def test_metadata_can_be_a_filter(server: ScriptedServer) -> None:
    server.answers = [page()]
    wanted: dict[str, Any] = {"metadata.album": "x y"}
    assert list(server.client().list(**wanted)) == []
    assert server.requests[0].url.params["metadata.album"] == "x y"


def test_a_page_that_fails_for_a_moment_is_asked_for_again(server: ScriptedServer) -> None:
    server.answers = [
        page(job_document(id="a"), following="/v1/jobs?cursor=1"),
        httpx.Response(502),
        page(job_document(id="b")),
    ]
    assert [found.id for found in server.client().list()] == ["a", "b"]


def test_cancel_and_retry_follow_the_links_of_the_job(server: ScriptedServer) -> None:
    links = {"self": "/s", "cancel": "/c", "retry": "/r"}
    server.answers = [job_answer(links=links), job_answer("canceled"), job_answer("failed", links=links), job_answer()]
    client = server.client()
    assert client.cancel("job_1").state == "canceled"
    assert client.retry("job_1").state == "queued"
    assert [request.url.path for request in server.requests] == ["/v1/jobs/job_1", "/c", "/v1/jobs/job_1", "/r"]


def test_cancel_and_retry_take_a_job_and_ask_for_its_current_links(server: ScriptedServer) -> None:
    old = job("running")
    server.answers = [job_answer("running"), job_answer("canceled"), job_answer("canceled"), job_answer()]
    client = server.client()
    client.cancel(old)
    client.retry(old, idempotency_key="mine")
    assert [request.url.path.rpartition("/")[2] for request in server.requests[1::2]] == ["cancel", "retry"]
    assert server.requests[-1].headers["Idempotency-Key"] == "mine"


@pytest.mark.parametrize(("call", "state"), [("cancel", "succeeded"), ("retry", "running")])
def test_what_the_state_of_a_job_does_not_allow_is_a_conflict(server: ScriptedServer, call: str, state: str) -> None:
    server.answers = [job_answer(state), problem(409, "job_ended", "It has ended.", job=job_document(state))]
    with pytest.raises(ConflictError, match=r"It has ended\.") as refused:
        getattr(server.client(), call)("job_1")
    assert refused.value.code == "job_ended"
    assert server.requests[1].url.path == f"/v1/jobs/job_1/{call}"


def test_asking_twice_for_the_end_of_a_job_is_safe_and_so_it_is_tried_again(server: ScriptedServer) -> None:
    server.answers = [job_answer("running"), httpx.ReadError("reset"), job_answer("canceled")]
    assert server.client().cancel("job_1").ended


@pytest.mark.parametrize("job_id", ["a/b", "a?wait=60", "a#b", "a b", "ü", "%2F"])
def test_an_id_is_one_part_of_a_path_whatever_it_holds(server: ScriptedServer, job_id: str) -> None:
    server.answers = [problem(404)]
    with pytest.raises(Exception, match="No"):
        server.client().get(job_id)
    url = server.requests[0].url
    assert (url.raw_path.count(b"/"), url.query, url.fragment) == (3, b"", "")
    assert httpx.URL(f"/{url.raw_path.decode().rpartition('/')[2]}").path == f"/{job_id}"


def test_the_variants_are_those_of_the_server(server: ScriptedServer) -> None:
    server.answers = [httpx.Response(200, json={"data": [{"name": "tiny_16k"}]})]
    assert [variant["name"] for variant in server.client().variants()] == ["tiny_16k"]


@pytest.mark.parametrize(("state", "ended"), [("queued", False), ("running", False), ("succeeded", True)])
def test_a_job_knows_whether_it_has_ended(state: str, ended: bool) -> None:
    assert job(state).ended is ended
