"""What a worker makes of the URL of an input."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.errors import (
    InputForbiddenError,
    InputMissingError,
    InputRefusedError,
    InputTooLargeError,
    InputUnreachableError,
    JobError,
)
from jobs.service.attempts import Claim
from jobs.settings import Settings
from jobs.storage.protocol import ObjectStore
from tests.web_server import WebServer, answer, certificate, web_server
from workers.runner.inputs import fetch_input, fetch_url

NOW = datetime(2026, 1, 1, tzinfo=UTC)
QUERY = "?X-Amz-Signature=verysecret"


@pytest.fixture(scope="module")
def trusted(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, Path]:
    return certificate(tmp_path_factory.mktemp("tls"), "127.0.0.1")


@pytest.fixture
def server(trusted: tuple[ssl.SSLContext, Path]) -> Iterator[WebServer]:
    with web_server(tls=trusted[0]) as running:
        yield running


def settings_of(trusted: tuple[ssl.SSLContext, Path], **values: Any) -> Settings:
    given = {
        "input_hosts": ["127.0.0.1"],
        "outbound_allowed_networks": ["127.0.0.0/8"],
        "outbound_ca_file": trusted[1],
        "max_upload_bytes": 1000,
    }
    return Settings(**{**given, **values})


def claim_of(url: str) -> Claim:
    return Claim("job_1", 1, "w", "t", "tiny_16k", {}, url, NOW, NOW, 0.0)


def run(url: str, settings: Settings, target: Path) -> bool:
    return fetch_input(claim_of(url), cast("ObjectStore", None), settings, target)


def test_the_input_is_fetched_and_its_hash_is_logged(
    server: WebServer, trusted: tuple[ssl.SSLContext, Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    server.replies[f"/walk.mp4{QUERY}"] = answer(b"a video")
    assert run(f"https://{server.authority}/walk.mp4{QUERY}", settings_of(trusted), tmp_path / "input")
    assert (tmp_path / "input").read_bytes() == b"a video"
    assert "job job_1: fetched 7 bytes from" in caplog.text
    assert "verysecret" not in caplog.text


@pytest.mark.parametrize(
    ("status", "error", "code", "retryable"),
    [
        ("404 Not Found", InputMissingError, "input_missing", False),
        ("410 Gone", InputMissingError, "input_missing", False),
        ("403 Forbidden", InputForbiddenError, "input_forbidden", False),
        ("418 Teapot", InputRefusedError, "input_refused", False),
        ("302 Found", InputRefusedError, "input_refused", False),
        ("429 Too Many", InputUnreachableError, "input_unreachable", True),
        ("500 Error", InputUnreachableError, "input_unreachable", True),
        ("503 Busy", InputUnreachableError, "input_unreachable", True),
    ],
)
def test_a_refusal_of_the_host_is_the_jobs_error(
    server: WebServer,
    trusted: tuple[ssl.SSLContext, Path],
    tmp_path: Path,
    status: str,
    error: type[JobError],
    code: str,
    retryable: bool,
) -> None:
    server.replies[f"/walk.mp4{QUERY}"] = answer(b"the text of the host", status)
    with pytest.raises(error) as caught:
        run(f"https://{server.authority}/walk.mp4{QUERY}", settings_of(trusted), tmp_path / "input")
    failure = caught.value.failure("fetch")
    assert (failure.code, failure.retryable) == (code, retryable)
    assert "verysecret" not in failure.message
    assert "the text of the host" not in failure.message


def test_too_many_bytes_and_compressed_ones_are_the_jobs_error(
    server: WebServer, trusted: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    server.replies |= {"/large": answer(b"x" * 1001), "/gzip": answer(b"x", content_encoding="gzip")}
    for path, error in (("/large", InputTooLargeError), ("/gzip", InputRefusedError)):
        with pytest.raises(error):
            run(f"https://{server.authority}{path}", settings_of(trusted), tmp_path / "input")


def test_a_host_that_is_away_is_worth_another_try(trusted: tuple[ssl.SSLContext, Path], tmp_path: Path) -> None:
    with pytest.raises(InputUnreachableError):
        run("https://127.0.0.1:1/a.mp4", settings_of(trusted), tmp_path / "input")


@pytest.mark.parametrize("values", [{"outbound_allowed_networks": []}, {"input_hosts": []}, {"input_hosts": ["a.b"]}])
def test_what_is_no_longer_allowed_is_not_fetched(
    server: WebServer, trusted: tuple[ssl.SSLContext, Path], tmp_path: Path, values: dict[str, Any]
) -> None:
    with pytest.raises(InputRefusedError):
        run(f"https://{server.authority}/walk.mp4", settings_of(trusted, **values), tmp_path / "input")
    assert server.connections == 0


def test_a_redirect_goes_to_allowed_hosts_only(
    server: WebServer, trusted: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    server.replies |= {
        "/same": answer(b"", "302 Found", location=f"/walk.mp4{QUERY}"),
        "/other": answer(b"", "302 Found", location=f"https://127.0.0.2:{server.port}/walk.mp4{QUERY}"),
        f"/walk.mp4{QUERY}": answer(b"a video"),
    }
    assert run(f"https://{server.authority}/same", settings_of(trusted), tmp_path / "input")
    with pytest.raises(InputRefusedError) as caught:
        run(f"https://{server.authority}/other", settings_of(trusted), tmp_path / "input")
    assert "verysecret" not in str(caught.value)


def test_a_job_that_is_stopped_ends_its_download(
    server: WebServer, trusted: tuple[ssl.SSLContext, Path], tmp_path: Path
) -> None:
    class Stopped(Exception):
        pass

    def stop() -> None:
        raise Stopped

    server.replies["/"] = answer(b"a video")
    url = f"https://{server.authority}/"
    with pytest.raises(Stopped):
        fetch_url(url, claim_of(url), settings_of(trusted), tmp_path / "input", hosts=("*",), check_stop=stop)
