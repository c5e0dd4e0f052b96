"""`fetch`, `read` and `post` against real servers: what arrives, and what is cut off."""

from __future__ import annotations

import gzip
import hashlib
import socket
import time
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from jobs.outbound.calls import fetch, post, read
from jobs.outbound.errors import (
    OutboundContentError,
    OutboundError,
    OutboundRefusedError,
    OutboundStatusError,
    OutboundTooLargeError,
    OutboundUnreachableError,
)
from jobs.outbound.policy import OutboundPolicy
from jobs.outbound.resolving import resolve
from tests.contract.outbound.conftest import Connections
from tests.web_server import WebServer, answer, certificate, web_server

OWN = OutboundPolicy(
    schemes=frozenset({"http", "https"}),
    allowed_networks=(ip_network("127.0.0.0/8"), ip_network("::1/128")),
    max_redirects=5,
    max_bytes=1000,
    total_s=20,
)
Names = dict[str, list[str | list[str]]]


def url(server: WebServer, path: str = "/") -> str:
    return f"http://{server.authority}{path}"


def test_a_file_is_fetched_whole(internal: WebServer, tmp_path: Path) -> None:
    internal.replies["/v.mp4?sig=secret"] = answer(b"video" * 100, content_type="video/mp4")
    fetched = fetch(url(internal, "/v.mp4?sig=secret#t=1"), tmp_path / "input", OWN)
    assert (tmp_path / "input").read_bytes() == b"video" * 100
    assert (fetched.size_bytes, fetched.content_type) == (500, "video/mp4")
    assert fetched.sha256 == hashlib.sha256(b"video" * 100).hexdigest()
    lines = internal.requests[0].decode().split("\r\n")
    assert lines[:2] == ["GET /v.mp4?sig=secret HTTP/1.1", f"Host: {internal.authority}"]
    assert "Accept-Encoding: identity" in lines


def test_a_body_in_chunks_or_without_length_is_read_to_its_end(internal: WebServer) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    internal.replies |= {"/chunks": chunked, "/end": answer(b"abcde", content_length="")}
    assert read(url(internal, "/chunks"), OWN) == read(url(internal, "/end"), OWN) == b"abcde"


def test_a_name_keeps_its_host_header_and_its_certificate_is_checked(names: Names, tmp_path: Path) -> None:
    context, ca_file = certificate(tmp_path, "files.example")
    asked: list[str | None] = []
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    names |= {"files.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    policy = replace(OWN, ca_file=ca_file)
    with web_server(tls=context) as server:
        server.replies["/"] = answer(b"content")
        assert read(f"https://files.example:{server.port}/", policy) == b"content"
        assert asked == ["files.example"]
        assert f"Host: files.example:{server.port}\r\n".encode() in server.requests[0]
        for host, trusted in (("other.example", policy), ("127.0.0.1", policy), ("files.example", OWN)):
            with pytest.raises(OutboundUnreachableError, match="certificate"):
                read(f"https://{host}:{server.port}/", trusted)
    assert len(server.requests) == 1


def test_the_next_address_is_tried_when_one_does_not_answer(
    internal: WebServer, names: Names, connections: Connections
) -> None:
    internal.replies["/"] = answer(b"content")
    names["several.example"] = [["93.184.216.34", "127.0.0.1"]]
    assert read(f"http://several.example:{internal.port}/", OWN) == b"content"
    assert connections.tried == ["93.184.216.34", "127.0.0.1"]


def test_redirects_are_followed_up_to_five(internal: WebServer, tmp_path: Path) -> None:
    for step in range(6):
        internal.replies[f"/{step}"] = answer(b"", "302 Found", location=f"{step + 1}" if step % 2 else f"/{step + 1}")
    internal.replies["/6"] = answer(b"end")
    assert read(url(internal, "/1"), OWN) == b"end"
    with pytest.raises(OutboundRefusedError, match="more than 5 redirects"):
        fetch(url(internal, "/0"), tmp_path / "input", OWN)
    assert not (tmp_path / "input").exists()


def test_a_redirect_never_leads_from_https_to_http_or_to_another_host_than_allowed(
    internal: WebServer, names: Names, tmp_path: Path
) -> None:
    context, ca_file = certificate(tmp_path, "files.example")
    names |= {"files.example": ["127.0.0.1"], "other.example": ["127.0.0.1"]}
    policy = replace(OWN, ca_file=ca_file, hosts=("files.example",))
    with web_server(tls=context) as server:
        server.replies |= {
            "/down": answer(b"", "302 Found", location=f"http://files.example:{internal.port}/"),
            "/host": answer(b"", "302 Found", location=f"//other.example:{server.port}/"),
            "/none": answer(b"", "302 Found"),
            "/bad": answer(b"", "302 Found", location="http://[bad/"),
            "/ok": answer(b"", "301 Moved", location=f"https://files.example:{server.port}/end"),
            "/end": answer(b"end"),
        }
        start = f"https://files.example:{server.port}"
        assert read(f"{start}/ok", policy) == b"end"
        for path, error in (
            ("/down", OutboundRefusedError),
            ("/host", OutboundRefusedError),
            ("/bad", OutboundRefusedError),
            ("/none", OutboundStatusError),
        ):
            with pytest.raises(error):
                read(start + path, policy)
    assert internal.connections == 0


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"x" * 1001),
        answer(b"x" * 5000, content_length=""),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
    ],
)
def test_more_bytes_than_allowed_are_not_read(internal: WebServer, reply: bytes, tmp_path: Path) -> None:
    internal.replies["/"] = reply
    with pytest.raises(OutboundTooLargeError, match="1000 bytes"):
        fetch(url(internal), tmp_path / "input", OWN)
    assert not (tmp_path / "input").exists()


def test_exactly_the_allowed_bytes_are_read(internal: WebServer) -> None:
    internal.replies["/"] = answer(b"x" * 1000)
    assert len(read(url(internal), OWN)) == 1000


@pytest.mark.parametrize(
    "reply",
    [
        answer(b"abc", content_length="10"),  # breaks off
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000 + b"\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"",
    ],
)
def test_an_answer_that_breaks_off_or_is_not_http_is_no_content(
    internal: WebServer, reply: bytes, tmp_path: Path
) -> None:
    internal.replies["/"] = reply
    with pytest.raises(OutboundUnreachableError) as caught:
        fetch(url(internal), tmp_path / "input", OWN)
    assert caught.value.retryable
    assert "SSH" not in caught.value.message
    assert not (tmp_path / "input").exists()


def test_what_follows_the_declared_length_is_not_read(internal: WebServer) -> None:
    internal.replies["/"] = answer(b"abcde" + b"x" * 5000, content_length="5")
    assert read(url(internal), OWN) == b"abcde"


def test_compressed_content_that_nobody_asked_for_is_refused(internal: WebServer) -> None:
    internal.replies["/"] = answer(gzip.compress(b"x" * 10_000_000), content_encoding="gzip")
    with pytest.raises(OutboundContentError):
        read(url(internal), replace(OWN, max_bytes=1_000_000))


@pytest.mark.parametrize(
    ("status", "retryable"),
    [(204, False), (206, False), (400, False), (403, False), (404, False), (429, True), (503, True)],
)
def test_another_status_than_200_is_no_content(internal: WebServer, status: int, retryable: bool) -> None:
    internal.replies["/a?secret"] = answer(b"", f"{status} X", content_length="" if status == 204 else "0")
    with pytest.raises(OutboundStatusError) as caught:
        read(url(internal, "/a?secret"), OWN)
    assert (caught.value.status, caught.value.retryable) == (status, retryable)
    assert "secret" not in caught.value.message


def _drip(data: bytes, every_s: float = 0.02) -> object:
    def reply(connection: socket.socket) -> None:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(every_s)

    return reply


@pytest.mark.parametrize("start", [b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", b"HTTP/1.1 200 OK\r\nX-A: "])
def test_a_host_that_drips_ends_with_the_time_for_the_whole_call(internal: WebServer, start: bytes) -> None:
    internal.replies["/"] = _drip(start + b"x" * 900)  # type: ignore[assignment]
    with pytest.raises(OutboundUnreachableError, match="in time"):
        read(url(internal), replace(OWN, total_s=0.4, idle_s=10))


def test_endless_interim_answers_end_with_the_time_for_the_whole_call(internal: WebServer) -> None:
    internal.replies["/"] = _drip(b"HTTP/1.1 100 Continue\r\n\r\n" * 200, 0.001)  # type: ignore[assignment]
    with pytest.raises(OutboundUnreachableError):
        read(url(internal), replace(OWN, total_s=0.4))


def test_a_host_that_says_nothing_ends_with_the_idle_time(internal: WebServer) -> None:
    internal.replies["/"] = lambda connection: time.sleep(3)
    with pytest.raises(OutboundUnreachableError, match="in time"):
        read(url(internal), replace(OWN, idle_s=0.2))


def test_a_tls_handshake_that_does_not_come_ends_in_time(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(OutboundUnreachableError, match="in time"):
        read(f"https://127.0.0.1:{silent.getsockname()[1]}/", replace(OWN, connect_s=0.3))


def test_a_download_can_be_stopped(internal: WebServer, tmp_path: Path) -> None:
    class Stopped(Exception):
        pass

    asked: list[int] = []

    def interrupt() -> None:
        asked.append(1)
        if len(asked) > 3:
            raise Stopped

    internal.replies["/"] = _drip(answer(b"x" * 900))  # type: ignore[assignment]
    with pytest.raises(Stopped):
        fetch(url(internal), tmp_path / "input", OWN, interrupt=interrupt)
    assert not (tmp_path / "input").exists()


def test_a_look_up_that_takes_too_long_ends_in_time() -> None:
    with pytest.raises(OutboundUnreachableError, match="in time"):
        resolve("slow.example", 80, timeout_s=0.1, resolver=lambda host, port: time.sleep(1) or [])  # type: ignore[func-returns-value]


def test_a_name_server_in_trouble_is_worth_another_try() -> None:
    def away(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")

    with pytest.raises(OutboundUnreachableError):
        read("http://files.example/", OWN, resolver=away)


def test_a_post_returns_status_headers_and_the_start_of_the_answer(internal: WebServer) -> None:
    internal.replies |= {"/hook": answer(b"y" * 5000, "410 Gone", retry_after="5"), "/empty": answer(b"", "204 No")}
    answered = post(
        url(internal, "/hook"),
        b'{"a": 1}',
        {"Content-Type": "application/json", "webhook-id": "msg_1", "Host": "evil", "Content-Length": "3"},
        OWN,
    )
    assert (answered.status, answered.headers["retry-after"], answered.body_start) == (410, "5", b"y" * 1000)
    head, _, body = internal.requests[0].partition(b"\r\n\r\n")
    assert body == b'{"a": 1}'
    assert [line for line in head.decode().split("\r\n") if line.lower().startswith(("host", "content-length"))] == [
        f"Host: {internal.authority}",
        "Content-Length: 8",
    ]
    assert b"webhook-id: msg_1" in head
    assert post(url(internal, "/empty"), b"", {}, OWN).status == 204


def test_a_post_counts_by_its_status_even_if_the_body_never_ends(internal: WebServer) -> None:
    internal.replies["/"] = _drip(b"HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n" + b"x" * 900, 0.005)  # type: ignore[assignment]
    assert post(url(internal), b"{}", {}, replace(OWN, total_s=1.0)).status == 200


def test_a_header_with_a_line_end_is_not_sent(internal: WebServer) -> None:
    with pytest.raises(OutboundError):
        post(url(internal), b"{}", {"X-A": "a\r\nX-B: b"}, OWN)
    assert internal.requests in ([], [b"\r\n\r\n"])
