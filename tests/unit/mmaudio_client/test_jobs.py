"""Submitting, listing, cancelling and retrying: by the links that the server gives."""

from __future__ import annotations

import json
from dataclasses import FrozenInstanceError
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from mmaudio_client import (
    ClientClosedError,
    ConflictError,
    InvalidJobIdError,
    InvalidRequestError,
    NotFoundError,
    WrongServerError,
)
from tests.unit.mmaudio_client.scripted_server import (
    URL,
    ScriptedServer,
    job,
    job_answer,
    job_document,
    page,
    problem,
    sound,
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


@pytest.mark.parametrize(
    "job_id", ["", "..", "../healthz", "a/b", "a?wait=60", "a#b", "a b", "ü", "%2F", "\udcff", None, 7, b"job_1"]
)
@pytest.mark.parametrize("call", ["get", "wait", "cancel", "retry", "download", "resolve_id"])
def test_what_can_be_no_id_is_refused_before_anything_is_sent(server: ScriptedServer, call: str, job_id: Any) -> None:
    with pytest.raises(InvalidJobIdError, match="is not a job id"):
        getattr(server.client(), call)(job_id)
    assert server.requests == []


@pytest.mark.parametrize("call", ["get", "remove"])
@pytest.mark.parametrize("trigger_id", ["", "../jobs", None])
def test_what_can_be_no_trigger_id_is_not_found(server: ScriptedServer, call: str, trigger_id: Any) -> None:
    with pytest.raises(NotFoundError, match="is not a trigger id"):
        getattr(server.client().triggers, call)(trigger_id)
    assert server.requests == []


@pytest.mark.parametrize(
    ("call", "arguments"), [("get", ["job_1"]), ("download", [job("succeeded")]), ("upload", [b"video"]), ("page", [])]
)
def test_a_closed_client_says_so(server: ScriptedServer, call: str, arguments: list[Any]) -> None:
    client = server.client()
    client.close()
    with pytest.raises(ClientClosedError, match="The client is closed"):
        getattr(client, call)(*arguments)


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("duration_s", float("nan"), "duration_s: must be a finite number, got nan"),
        ("cfg_strength", float("-inf"), "cfg_strength: must be a finite number, got -inf"),
        ("metadata", {"a": object()}, "metadata: cannot be sent as JSON"),
        ("metadata", {"a": float("inf")}, "metadata: cannot be sent as JSON"),
        ("prompt", b"rain", "prompt: cannot be sent as JSON"),
    ],
)
def test_a_field_that_json_cannot_carry_is_named_before_anything_is_sent(
    server: ScriptedServer, field: str, value: Any, sentence: str
) -> None:
    fields: Any = {field: value}
    with pytest.raises(InvalidRequestError, match=sentence) as refused:
        server.client().submit(video=b"video", **fields)
    assert ([*refused.value.fields], server.requests) == ([field], [])
    with pytest.raises(InvalidRequestError):
        server.client().triggers.add("videos", request=fields)
    assert server.requests == []


def test_metadata_may_be_any_mapping(server: ScriptedServer) -> None:
    server.answers = [job_answer()]
    server.client().submit(prompt="x", metadata=MappingProxyType({"a": "b"}))
    assert json.loads(server.requests[0].content)["metadata"] == {"a": "b"}


@pytest.mark.parametrize("key", ["é\n", "a\nb", "ü", "\udcff"])
def test_an_idempotency_key_must_fit_in_a_header(server: ScriptedServer, key: str) -> None:
    client = server.client()
    for call in (
        lambda: client.submit(video=b"video", idempotency_key=key),
        lambda: client.retry("job_1", idempotency_key=key),
    ):
        with pytest.raises(InvalidRequestError, match="an idempotency key must be printable ASCII"):
            call()
    assert server.requests == []


def test_an_answer_with_a_link_that_is_none_is_a_client_error(server: ScriptedServer) -> None:
    with pytest.raises(WrongServerError, match="not a URL"):
        server.client().get(job(links={"self": "http://a:b/"}))


def test_a_job_that_ended_meanwhile_can_be_downloaded(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [job_answer(), job_answer("succeeded"), job_answer("succeeded"), sound()]
    client = server.client()
    submitted = client.submit(prompt="rain")
    client.wait(submitted.id)
    assert client.download(submitted, tmp_path) == (tmp_path / "rain.flac",)


def test_the_variants_are_those_of_the_server(server: ScriptedServer) -> None:
    server.answers = [httpx.Response(200, json={"data": [{"name": "tiny_16k"}]})]
    assert [variant["name"] for variant in server.client().variants()] == ["tiny_16k"]


@pytest.mark.parametrize(("state", "ended"), [("queued", False), ("running", False), ("succeeded", True)])
def test_a_job_knows_whether_it_has_ended(state: str, ended: bool) -> None:
    assert job(state).ended is ended
