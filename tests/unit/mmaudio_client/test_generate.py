"""`Client.generate`: submit, wait and download in one call."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from mmaudio_client import JobFailedError, WaitTimeoutError
from tests.unit.mmaudio_client.scripted_server import SOUND, ScriptedServer, job_answer, sound, upload_answer


def sent(server: ScriptedServer) -> dict[str, object]:
    """The request that was sent."""
    found: dict[str, object] = json.loads(
        next(one.content for one in server.requests if one.method == "POST" and one.url.path == "/v1/jobs")
    )
    return found


def test_a_prompt_alone_becomes_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    request = {"prompt": "rain on a roof"}
    server.answers = [job_answer(request=request), job_answer("succeeded", request=request), sound()]
    made = server.client().generate(prompt="rain on a roof", output=tmp_path / "sounds")
    assert made.path == tmp_path / "sounds" / "rain-on-a-roof.flac"
    assert made.path.read_bytes() == SOUND
    assert made.job.state == "succeeded"


@pytest.mark.parametrize(
    ("name", "field"), [("walk.mp4", "video"), ("walk.JPG", "image"), ("walk.avif", "image"), ("walk", "video")]
)
def test_a_file_is_an_image_by_its_suffix(server: ScriptedServer, tmp_path: Path, name: str, field: str) -> None:
    (tmp_path / name).write_bytes(b"bytes")
    request = {field: "upl_1"}
    server.answers = [
        upload_answer(),
        httpx.Response(200, json={}),
        job_answer(request=request),
        job_answer("succeeded", request=request),
        upload_answer(filename=name),
        sound(),
    ]
    seen: list[tuple[int, int]] = []
    made = server.client().generate(name, on_download=lambda *done: seen.append(done))
    assert sent(server) == request
    assert made.paths == (Path("walk.flac"),)
    assert seen[-1] == (len(SOUND), len(SOUND))


@pytest.mark.parametrize(
    ("address", "field"),
    [
        ("https://example.com/a.png?size=large.mp4", "image"),
        ("https://example.com/a.mp4?poster=a.png", "video"),
        ("s3://bucket/a.png", "image"),
        ("upl_1", "video"),
    ],
)
def test_an_address_is_passed_on(server: ScriptedServer, address: str, field: str) -> None:
    request = {field: address}
    server.answers = [job_answer(request=request), job_answer("failed", request=request)]
    with pytest.raises(JobFailedError):
        server.client().generate(address)
    assert sent(server) == request


def test_an_image_can_be_given_as_one(server: ScriptedServer) -> None:
    server.answers = [job_answer(), job_answer("failed")]
    with pytest.raises(JobFailedError):
        server.client().generate(image="https://example.com/still")
    assert sent(server) == {"image": "https://example.com/still"}


def test_the_job_continues_when_the_time_is_up(server: ScriptedServer) -> None:
    server.answers = [job_answer()]
    with pytest.raises(WaitTimeoutError, match="it continues"):
        server.client().generate(prompt="rain", timeout_s=0)
