"""Files on their way to the platform: in one piece to a signed link, or as the form an object store wants."""

from __future__ import annotations

import hashlib
import json
from io import BytesIO
from pathlib import Path

import httpx
import pytest
from werkzeug.formparser import FormDataParser
from werkzeug.http import parse_options_header

from mmaudio_client import ApiError, InvalidInputError, UnavailableError
from mmaudio_client.uploads import CHUNK_BYTES
from tests.unit.mmaudio_client.scripted_server import (
    URL,
    ScriptedServer,
    job_answer,
    problem,
    upload_document,
)

VIDEO = b"\x00\r\n--boundary\xff" * (3 * CHUNK_BYTES // 14)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "a clip.mp4"
    path.write_bytes(VIDEO)
    return path


def announced(method: str = "PUT", url: str = "/v1/uploads/upl_1/content?signature=x") -> httpx.Response:
    return httpx.Response(201, json=upload_document(method, url))


def form(request: httpx.Request) -> tuple[list[tuple[str, str]], bytes]:
    """Return the fields in order, and the file."""
    kind, options = parse_options_header(request.headers["Content-Type"])
    parser = FormDataParser(stream_factory=lambda *_, **__: BytesIO())
    _, fields, files = parser.parse(BytesIO(request.content), kind, len(request.content), options)
    return list(fields.items()), files["file"].stream.read()


def test_a_file_is_announced_with_its_size_and_hash_sent_whole_and_named_in_the_job(
    server: ScriptedServer, clip: Path
) -> None:
    server.answers = [announced(), httpx.Response(204), job_answer()]
    server.client().submit(video=clip, prompt="rain")
    announcement, sent, submission = server.requests
    assert json.loads(announcement.content) == {
        "filename": "a clip.mp4",
        "size_bytes": len(VIDEO),
        "sha256": hashlib.sha256(VIDEO).hexdigest(),
    }
    assert (sent.method, str(sent.url)) == ("PUT", f"{URL}/v1/uploads/upl_1/content?signature=x")
    assert sent.content == VIDEO
    assert sent.headers["Content-Type"] == "application/octet-stream"
    assert json.loads(submission.content) == {"prompt": "rain", "video": "upl_1"}


def test_a_picture_is_sent_the_same_way(server: ScriptedServer, clip: Path) -> None:
    server.answers = [announced(), httpx.Response(204), job_answer()]
    server.client().submit(image=clip)
    assert json.loads(server.requests[-1].content) == {"image": "upl_1"}


def test_what_is_no_file_is_passed_on_as_it_is(server: ScriptedServer) -> None:
    server.answers = [job_answer()]
    server.client().submit(video="s3://bucket/clip.mp4")
    assert json.loads(server.requests[0].content) == {"video": "s3://bucket/clip.mp4"}


def test_a_form_holds_the_fields_of_the_object_store_before_the_file(server: ScriptedServer, clip: Path) -> None:
    server.answers = [announced("POST", "https://store.example/bucket"), httpx.Response(204)]
    assert server.client().upload(clip) == "upl_1"
    sent = server.requests[1]
    fields = [("key", "uploads/upl_1"), ("policy", "p"), ("x-amz-signature", "s")]
    assert (sent.method, str(sent.url)) == ("POST", "https://store.example/bucket")
    assert form(sent) == (fields, VIDEO)
    # An object store ignores every field behind the file.
    assert sent.content.index(b"x-amz-signature") < sent.content.index(VIDEO)
    assert int(sent.headers["Content-Length"]) == len(sent.content)


def test_a_store_that_sends_us_to_another_region_gets_the_whole_form_there(server: ScriptedServer, clip: Path) -> None:
    moved = httpx.Response(307, headers={"Location": "https://eu.store.example/bucket"})
    server.answers = [announced("POST", "https://store.example/bucket"), moved, httpx.Response(204)]
    server.client().upload(clip)
    assert server.requests[2].url.host == "eu.store.example"
    assert form(server.requests[2])[1] == VIDEO


@pytest.mark.parametrize("method", ["PUT", "POST"])
def test_progress_grows_up_to_the_size(server: ScriptedServer, clip: Path, method: str) -> None:
    server.answers = [announced(method), httpx.Response(204)]
    told: list[tuple[int, int]] = []
    server.client().upload(clip, on_progress=lambda done, size: told.append((done, size)))
    done = [step for step, _ in told]
    assert {size for _, size in told} == {len(VIDEO)}
    assert done == sorted(done)
    assert len(set(done)) > 2
    assert done[-1] == len(VIDEO)


@pytest.mark.parametrize("status", [403, 413, 422])
def test_a_refused_upload_is_an_error_and_makes_no_job(server: ScriptedServer, clip: Path, status: int) -> None:
    server.answers = [announced(), problem(status, "too_large", "Too large.")]
    with pytest.raises(ApiError, match=r"Too large\.") as refused:
        server.client().submit(video=clip)
    assert (refused.value.status, len(server.requests)) == (status, 2)


def test_the_refusal_of_an_object_store_is_a_sentence_too(server: ScriptedServer, clip: Path) -> None:
    refusal = httpx.Response(400, content=b"<Error><Code>EntityTooLarge</Code></Error>")
    server.answers = [announced("POST", "https://store.example/bucket"), refusal]
    with pytest.raises(ApiError, match="400 Bad Request"):
        server.client().upload(clip)


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("trouble", [httpx.WriteError("reset"), httpx.ReadTimeout(""), httpx.ConnectError("refused")])
def test_an_interrupted_upload_says_so_and_makes_no_job(
    server: ScriptedServer, clip: Path, method: str, trouble: Exception
) -> None:
    server.answers = [announced(method), trouble]
    with pytest.raises(UnavailableError, match="upload was interrupted"):
        server.client(patience_s=0).submit(video=clip)
    assert len(server.requests) == 2


def test_a_file_that_is_not_there_is_found_out_before_anything_is_sent(server: ScriptedServer, tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match="There is no file"):
        server.client().submit(video=tmp_path / "missing.mp4")
    assert server.requests == []


def test_an_announcement_is_tried_again(server: ScriptedServer, clip: Path) -> None:
    server.answers = [httpx.Response(503), announced(), httpx.Response(204)]
    assert server.client().upload(clip) == "upl_1"


def test_behind_a_path_the_upload_goes_behind_it_too(server: ScriptedServer, clip: Path) -> None:
    server.answers = [announced(), httpx.Response(204)]
    server.client(f"{URL}/sounds").upload(clip)
    assert [request.url.path for request in server.requests] == [
        "/sounds/v1/uploads",
        "/sounds/v1/uploads/upl_1/content",
    ]
