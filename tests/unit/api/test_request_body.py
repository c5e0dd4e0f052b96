"""Bodies that end before their announced length."""

from __future__ import annotations

import io

import pytest

from api.request_body import COMPLETE_BODY, BodyIncompleteError, CountedBody
from tests.unit.api.conftest import Harness


@pytest.mark.parametrize("size", [-1, 1, 2, 100])
def test_a_whole_body_is_read_as_it_is(size: int) -> None:
    body, read = CountedBody(io.BytesIO(b"rain"), 4), b""
    while chunk := body.read(size):
        read += chunk
    assert read == b"rain"


@pytest.mark.parametrize("size", [-1, 1, 100])
def test_a_body_that_ends_early_raises(size: int) -> None:
    body = CountedBody(io.BytesIO(b"rain"), 5)
    with pytest.raises(BodyIncompleteError, match="ended after 4 bytes; Content-Length announced 5"):
        while body.read(size):
            pass


def test_nothing_after_the_announced_length_is_read() -> None:
    assert CountedBody(io.BytesIO(b"rain" + b"GET / HTTP/1.1"), 4).read() == b"rain"


def test_a_connection_that_breaks_is_no_fault_of_the_disk() -> None:
    class Broken(io.BytesIO):
        def read(self, _: int | None = None, /) -> bytes:
            raise ConnectionResetError

    with pytest.raises(BodyIncompleteError):
        CountedBody(Broken(), 4).read()


@pytest.mark.parametrize(("complete", "status"), [(False, 411), (True, 202)])
def test_a_body_in_chunks_needs_a_server_that_knows_its_end(harness: Harness, complete: bool, status: int) -> None:
    answer = harness.client.post(
        "/v1/jobs",
        input_stream=io.BytesIO(b'{"prompt": "rain"}'),
        content_type="application/json",
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True, COMPLETE_BODY: complete},
    )
    assert answer.status_code == status


def test_a_job_of_a_body_that_is_cut_short_is_not_made(harness: Harness) -> None:
    body = b'{"prompt": "rain"}'
    answer = harness.client.post(
        "/v1/jobs",
        input_stream=io.BytesIO(body),
        content_type="application/json",
        environ_overrides={"wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(body) + 1)},
    )
    assert (answer.status_code, (answer.json or {})["code"]) == (400, "incomplete_body")
    assert (harness.client.get("/v1/jobs").json or {})["data"] == []
