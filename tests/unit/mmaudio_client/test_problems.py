"""Refusals become typed errors, and answers that are none of the platform's become sentences."""

from __future__ import annotations

from collections.abc import Callable

import httpx
import pytest

import mmaudio_client
from mmaudio_client import (
    ApiError,
    Client,
    ClientError,
    ConflictError,
    InvalidAddressError,
    InvalidRequestError,
    NotFoundError,
    WrongServerError,
    errors,
)
from tests.unit.mmaudio_client.scripted_server import ScriptedServer, problem


@pytest.mark.parametrize(
    ("status", "kind"),
    [(404, NotFoundError), (409, ConflictError), (422, InvalidRequestError), (403, ApiError), (500, ApiError)],
)
def test_a_problem_document_becomes_the_error_of_its_status(
    server: ScriptedServer, status: int, kind: type[ApiError]
) -> None:
    server.answers = [problem(status, "a_code", "A sentence.")]
    with pytest.raises(ApiError) as refused:
        server.client().get("job_1")
    error = refused.value
    assert (type(error), error.status, error.code, error.detail) == (kind, status, "a_code", "A sentence.")


def test_the_fields_that_are_not_allowed_are_named_and_told(server: ScriptedServer) -> None:
    wrong = [{"field": "num_steps", "message": "at most 100"}, {"field": "seed", "message": "not negative"}]
    server.answers = [problem(422, "invalid_request", "Not allowed: num_steps, seed.", errors=wrong)]
    with pytest.raises(InvalidRequestError) as refused:
        server.client().submit(num_steps=1000, seed=-1)
    assert refused.value.fields == {"num_steps": "at most 100", "seed": "not negative"}
    assert str(refused.value).splitlines() == [
        "num_steps: at most 100",
        "seed: not negative",
    ]


def test_what_the_sentence_says_already_is_not_said_twice(server: ScriptedServer) -> None:
    wrong = [{"field": "video", "message": "there is no upload upl_1"}]
    server.answers = [problem(422, "invalid_request", "video: there is no upload upl_1", errors=wrong)]
    with pytest.raises(InvalidRequestError) as refused:
        server.client().submit(video="upl_1")
    assert str(refused.value) == "video: there is no upload upl_1"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>Bad gateway</html>",
        b"[]",
        b"null",
        b"\xff\xfe",
        b'{"errors": "none"}',
        b'{"errors": ["a field", 5]}',
        b'{"errors": [{"message": "a"}], "detail": null, "code": null}',
    ],
)
def test_a_refusal_that_is_no_problem_document_is_still_a_sentence(server: ScriptedServer, body: bytes) -> None:
    server.answers = [httpx.Response(403, content=body)]
    with pytest.raises(ApiError) as refused:
        server.client().get("job_1")
    assert (str(refused.value), refused.value.code) == ("The server answered 403 Forbidden.", "")


def test_a_field_without_a_message_is_named_all_the_same(server: ScriptedServer) -> None:
    server.answers = [problem(422, errors=[{"field": "seed"}])]
    with pytest.raises(InvalidRequestError) as refused:
        server.client().submit(seed=1)
    assert refused.value.fields == {"seed": ""}


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html"}, {}])
def test_a_page_where_the_platform_should_be_is_no_answer(server: ScriptedServer, headers: dict[str, str]) -> None:
    server.answers = [httpx.Response(200, content=b"<html>Welcome!</html>", headers=headers)]
    with pytest.raises(WrongServerError, match="instead of JSON"):
        server.client().get("job_1")


@pytest.mark.parametrize("status", [404, 405, 501])
@pytest.mark.parametrize("content", [b"<html>File not found</html>", b"", b'{"detail": "Not Found"}'])
def test_a_refusal_of_the_path_that_is_no_problem_document_comes_from_another_server(
    server: ScriptedServer, status: int, content: bytes
) -> None:
    server.answers = [httpx.Response(status, content=content)]
    with pytest.raises(WrongServerError, match="is not an mmaudio server; check --api-url or MMAUDIO_API_URL"):
        server.client().submit(prompt="rain")


def test_json_that_cannot_be_read_is_no_answer(server: ScriptedServer) -> None:
    server.answers = [httpx.Response(200, content=b"{", headers={"Content-Type": "application/json"})]
    with pytest.raises(WrongServerError, match="not JSON"):
        server.client().variants()


@pytest.mark.parametrize("address", ["http://platform.example/v1", "http://platform.example/sounds/v1/"])
def test_an_address_with_the_version_at_its_end_says_to_remove_it(address: str) -> None:
    with pytest.raises(InvalidAddressError, match="remove /v1 from its end"):
        Client(address)


@pytest.mark.parametrize("document", [{}, {"hello": 1}, [], 7, {"id": "job_1", "state": "queued"}])
def test_json_that_is_no_job_is_no_answer(server: ScriptedServer, document: object) -> None:
    server.answers = [httpx.Response(200, json=document)] * 2
    with pytest.raises(WrongServerError, match="JSON that is not a job"):
        server.client().get("job_1")
    with pytest.raises(WrongServerError, match="JSON that is not a page"):
        server.client().page()


@pytest.mark.parametrize("document", [{}, [], 7, {"id": "x", "upload": None}])
@pytest.mark.parametrize(
    "ask",
    [
        lambda client: client.upload(b"video"),
        lambda client: client.triggers.dry_run("trg_1", "key"),
        lambda client: client.triggers.list(),
        lambda client: client.variants(),
    ],
)
def test_json_that_is_of_another_form_is_no_answer(
    server: ScriptedServer, document: object, ask: Callable[[Client], object]
) -> None:
    server.answers = [httpx.Response(200, json=document)]
    with pytest.raises(WrongServerError, match="is not an mmaudio server"):
        ask(server.client())


@pytest.mark.parametrize("document", [{}, [], 7])
def test_json_that_is_no_trigger_is_no_answer(server: ScriptedServer, document: object) -> None:
    server.answers = [httpx.Response(200, json=document)] * 2
    with pytest.raises(WrongServerError, match="not a trigger"):
        server.client().triggers.get("trg_1")
    with pytest.raises(WrongServerError, match="not a trigger"):
        server.client().triggers.add("videos")


def test_a_redirect_to_a_login_page_is_not_followed(server: ScriptedServer) -> None:
    server.answers = [httpx.Response(302, headers={"Location": "https://login.example/"})]
    with pytest.raises(ApiError, match="302 Found"):
        server.client().get("job_1")


@pytest.mark.parametrize(
    "address",
    ["", "localhost", "localhost:8000", "127.0.0.1:8000", "ftp://a.example", "http://", "http://a:b"],
)
def test_an_address_that_is_none_is_refused_before_anything_is_sent(address: str) -> None:
    with pytest.raises(InvalidAddressError, match="Got the server address"):
        Client(address)


def test_every_error_is_a_client_error_and_can_be_imported_from_the_package() -> None:
    kinds = {name: kind for name, kind in vars(errors).items() if name.endswith("Error")}
    assert len(kinds) > 5
    for name, kind in kinds.items():
        assert issubclass(kind, ClientError)
        assert getattr(mmaudio_client, name) is kind
        assert name in mmaudio_client.__all__
