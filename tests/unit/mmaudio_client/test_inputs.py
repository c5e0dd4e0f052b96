"""Inputs of a job: paths, bytes and open files are uploaded; addresses and upload ids pass through."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import httpx
import pytest

from mmaudio_client import InvalidInputError
from mmaudio_client.inputs import Source
from tests.unit.mmaudio_client.scripted_server import ScriptedServer, job_answer, upload_answer, upload_document

CLOSED = io.BytesIO(b"video")
CLOSED.close()


class Stream(io.RawIOBase):
    """What a pipe gives: bytes without a length."""

    def __init__(self, content: bytes) -> None:
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._content.readinto(buffer)


def submit(server: ScriptedServer, source: Source, *, form: bool = False) -> tuple[str, bytes]:
    """Submit a video; return the file name and the bytes that were sent."""
    announced = httpx.Response(201, json=upload_document("POST")) if form else upload_answer()
    server.answers = [announced, httpx.Response(204), job_answer()]
    server.client().submit(video=source)
    announcement, sent, submission = server.requests
    assert json.loads(submission.content) == {"video": "upl_1"}
    document = json.loads(announcement.content)
    if not form:
        assert document["size_bytes"] == len(sent.content)
    return document["filename"], sent.content


@pytest.mark.parametrize("source", ["s3://b/walk.mp4", "https://example.org/walk.mp4", "http://x/y", "upl_0123abc"])
def test_an_address_or_an_upload_id_passes_through(server: ScriptedServer, source: str) -> None:
    server.answers = [job_answer()]
    server.client().submit(video=source)
    assert json.loads(server.requests[0].content) == {"video": source}


@pytest.mark.parametrize("kind", [str, Path, os.path.abspath])
def test_a_path_is_a_file(server: ScriptedServer, tmp_path: Path, kind: Any) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"video")
    assert submit(server, kind("walk.mp4")) == ("walk.mp4", b"video")


def test_a_file_whose_name_begins_as_an_upload_id_is_a_file(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "upl_walk.mp4").write_bytes(b"video")
    assert submit(server, "upl_walk.mp4") == ("upl_walk.mp4", b"video")


def test_bytes_are_sent_as_they_are(server: ScriptedServer) -> None:
    assert submit(server, b"video") == ("upload", b"video")


@pytest.mark.parametrize("form", [False, True])
def test_an_open_file_is_sent_from_where_it_stands_and_stays_open(
    server: ScriptedServer, tmp_path: Path, form: bool
) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"head video")
    with (tmp_path / "walk.mp4").open("rb") as file:
        file.seek(5)
        name, sent = submit(server, file, form=form)
        assert not file.closed
    assert name == "walk.mp4"
    assert (b"video" in sent, b"head" in sent) == (True, False)


def test_a_file_in_memory_is_sent(server: ScriptedServer) -> None:
    assert submit(server, io.BytesIO(b"video")) == ("upload", b"video")


def test_a_stream_without_a_length_is_sent(server: ScriptedServer) -> None:
    assert submit(server, Stream(b"video" * 1000)) == ("upload", b"video" * 1000)  # type: ignore[arg-type]


def test_a_name_can_be_given(server: ScriptedServer) -> None:
    server.answers = [upload_answer(), httpx.Response(204)]
    assert server.client().upload(b"video", filename="walk.mp4") == "upl_1"
    assert json.loads(server.requests[0].content)["filename"] == "walk.mp4"


def test_a_name_that_is_no_text_is_sent_as_text(server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "caf\udce9.mp4"
    path.write_bytes(b"video")
    assert submit(server, path)[0] == "caf?.mp4"


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        ("missing.mp4", "There is no file 'missing.mp4'"),
        (Path("missing.mp4"), "There is no file 'missing.mp4'"),
        ("upl_missing.mp4", "There is no file"),
        ("ftp://example.org/x", "There is no file"),
        ("a\x00b", "a\x00b"),
        (".", "'.' is a folder; give a file."),
        ("", "The path of the input is empty"),
        (CLOSED, "The file 'upload' is closed"),
        ("empty.mp4", "'empty.mp4' is empty"),
        (b"", "The input is empty"),
        (io.BytesIO(), "is empty, or was already read"),
        (io.StringIO("text"), "The file 'upload' is opened as text"),
        (7, "Got an input of type int"),
    ],
)
def test_what_is_no_file_is_found_before_anything_is_sent(
    server: ScriptedServer, tmp_path: Path, source: Any, sentence: str
) -> None:
    (tmp_path / "empty.mp4").write_bytes(b"")
    with pytest.raises(InvalidInputError, match=sentence):
        server.client().submit(video=source)
    assert server.requests == []
