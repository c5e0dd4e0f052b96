"""The API key goes to the server it belongs to, and to no other."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from mmaudio_client import InvalidKeyError
from tests.unit.mmaudio_client.scripted_server import (
    SOUND,
    URL,
    ScriptedServer,
    artifact_document,
    job,
    job_answer,
    job_document,
    page,
    upload_document,
)

STRANGERS = [
    "https://store.example",
    "http://platform.example:9000",
    "https://platform.example",
    "http://platform.example.evil.example",
    "http://platform.example@evil.example",
]


def shown(server: ScriptedServer) -> list[str | None]:
    return [request.headers.get("Authorization") for request in server.requests]


@pytest.mark.parametrize(("key", "header"), [("k", "Bearer k"), ("k\n", "Bearer k"), ("", None), (None, None)])
def test_the_key_is_a_bearer_token_and_without_one_none_is_sent(
    server: ScriptedServer, key: str | None, header: str | None
) -> None:
    server.answers = [job_answer()]
    server.client(api_key=key).get("job_1")
    assert shown(server) == [header]


@pytest.mark.parametrize("key", ["secret\nvalue", "secret\x00", "sécret", "secret\u200b", "secret\udcff"])
def test_a_key_that_no_header_can_carry_is_refused_at_once_and_not_shown(server: ScriptedServer, key: str) -> None:
    with pytest.raises(InvalidKeyError) as refused:
        server.client(api_key=key)
    assert "cret" not in str(refused.value)
    assert refused.value.__context__ is None


def test_a_second_try_shows_the_key_again(server: ScriptedServer) -> None:
    server.answers = [httpx.Response(503), job_answer()]
    server.client(api_key="k").get("job_1")
    assert shown(server) == ["Bearer k", "Bearer k"]


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_presigned_upload_carries_no_key(server: ScriptedServer, tmp_path: Path, stranger: str, method: str) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"video")
    server.answers = [
        httpx.Response(201, json=upload_document(method, f"{stranger}/bucket")),
        httpx.Response(204),
        job_answer(),
    ]
    server.client(api_key="k").submit(video=tmp_path / "clip.mp4")
    assert shown(server) == ["Bearer k", None, "Bearer k"]


@pytest.mark.parametrize("stranger", STRANGERS[:2] + STRANGERS[3:])
def test_a_redirect_of_an_artifact_carries_no_key(server: ScriptedServer, tmp_path: Path, stranger: str) -> None:
    moved = httpx.Response(302, headers={"Location": f"{stranger}/bucket/audio.flac?signature=x"})
    server.answers = [moved, httpx.Response(200, content=SOUND)]
    server.client(api_key="k").download(job("succeeded"), tmp_path)
    assert shown(server) == ["Bearer k", None]


@pytest.mark.parametrize("stranger", STRANGERS)
def test_an_artifact_elsewhere_is_fetched_without_the_key(
    server: ScriptedServer, tmp_path: Path, stranger: str
) -> None:
    server.answers = [httpx.Response(200, content=SOUND)]
    elsewhere = artifact_document(url=f"{stranger}/bucket/audio.flac")
    server.client(api_key="k").download(job("succeeded", artifacts=[elsewhere]), tmp_path)
    assert shown(server) == [None]


@pytest.mark.parametrize("stranger", STRANGERS)
def test_a_link_that_leads_elsewhere_is_followed_without_the_key(server: ScriptedServer, stranger: str) -> None:
    links = {name: f"{stranger}/v1/jobs/job_1/{name}" for name in ("self", "cancel", "retry")}
    server.answers = [
        job_answer("succeeded"),
        job_answer(links=links),
        job_answer("canceled"),
        job_answer("failed", links=links),
        job_answer(),
        page(job_document(), following=f"{stranger}/v1/jobs?cursor=c"),
        page(),
    ]
    client = server.client(api_key="k")
    client.wait(job("running", links=links))
    client.cancel("job_1")
    client.retry("job_1")
    list(client.list())
    assert shown(server) == [None, "Bearer k", None, "Bearer k", None, "Bearer k", None]


@pytest.mark.parametrize("ours", ["", URL, f"{URL}:80", URL.upper().replace("HTTP", "http")])
def test_every_way_to_write_our_own_address_gets_the_key(server: ScriptedServer, tmp_path: Path, ours: str) -> None:
    server.answers = [httpx.Response(200, content=SOUND)]
    artifact = artifact_document(url=f"{ours}/v1/jobs/job_1/artifacts/audio.flac")
    server.client(api_key="k").download(job("succeeded", artifacts=[artifact]), tmp_path)
    assert shown(server) == ["Bearer k"]
