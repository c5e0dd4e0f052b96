"""`mmaudio doctor --cors` on a real endpoint: the rules it prints are those it finds sufficient."""

from __future__ import annotations

import http.server
import json
import os
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import pytest
from click.testing import CliRunner

from jobs.cli.doctor import doctor
from jobs.doctor.cors import missing_in_rules, origins_of, required_rules
from jobs.settings import Settings
from local_services.faulty_http import Fault, FaultSchedule, faulty_proxy
from local_services.ports import free_port

ORIGIN = "https://sounds.example.com"


@dataclass
class Browserless:
    """Answers preflights as a gateway that is set up by `headers` and `status`."""

    url: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)


@pytest.fixture
def gateway() -> Iterator[Browserless]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_OPTIONS(self) -> None:
            found.asked.append((self.path, dict(self.headers)))
            self.send_response(found.status)
            for name, value in found.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Browserless(f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield found
        server.shutdown()


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    for name in [name for name in os.environ if name.startswith("MMAUDIO_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    name = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=name)
    monkeypatch.setenv("MMAUDIO_STORAGE_URL", f"s3://{name}/p")
    monkeypatch.setenv("MMAUDIO_S3_ENDPOINT_URL", s3_endpoint)
    monkeypatch.setenv("MMAUDIO_S3_ADDRESSING_STYLE", "path")
    return name


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(doctor, ["--cors", *arguments])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture
def out_of_reach(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address that browsers use cannot be reached from here, so the bucket's rules decide."""
    monkeypatch.setenv("MMAUDIO_S3_PUBLIC_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")


@pytest.mark.usefixtures("out_of_reach")
def test_a_bucket_without_rules_lacks_them_and_has_them_after_what_was_printed(bucket: str, s3_endpoint: str) -> None:
    status, printed, said = run("--origin", ORIGIN)
    assert (status, f"missing: by the bucket's rules POST from {ORIGIN} is not allowed" in said) == (1, True)
    assert "not checked: could not ask as a browser does: 127.0.0.1:" in said
    assert f"put-bucket-cors --bucket {bucket}" in said

    client = boto3.client("s3", endpoint_url=s3_endpoint)
    client.put_bucket_cors(Bucket=bucket, CORSConfiguration=json.loads(printed))
    status, printed, said = run("--origin", ORIGIN)
    assert (status, said.endswith("Browsers are allowed what they need.\n")) == (0, True), said
    assert json.loads(run("--origin", ORIGIN, "--json")[1])["missing"] == []
    assert run("--origin", "https://other.example.com")[0] == 1


@pytest.mark.usefixtures("out_of_reach")
def test_rules_that_may_not_be_read_are_said_to_be_unknown(
    bucket: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    schedule = FaultSchedule()
    with faulty_proxy(s3_endpoint, schedule) as url:
        monkeypatch.setenv("MMAUDIO_S3_ENDPOINT_URL", url)
        schedule.next_calls_fail("GET", Fault.FORBIDDEN)
        status, printed, said = run("--origin", ORIGIN)
    assert (status, "CORSRules" in printed) == (2, True)
    assert f"could not look at the rules of the bucket {bucket}: these credentials may not read them" in said
    assert said.endswith("Nothing could be looked at.\n")


def test_what_a_browser_is_told_decides(bucket: str, gateway: Browserless, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MMAUDIO_S3_PUBLIC_ENDPOINT_URL", gateway.url)
    status, _, said = run("--origin", ORIGIN)
    assert (status, "POST from https://sounds.example.com is refused at 127.0.0.1" in said) == (1, True), said
    path, headers = gateway.asked[-1]
    assert path.startswith(f"/{bucket}")
    assert (headers["Origin"], headers["Access-Control-Request-Method"]) == (ORIGIN, "POST")

    gateway.headers = {"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Headers": "*"}
    status, _, said = run("--origin", ORIGIN)
    assert (status, "note: by the bucket's own rules GET from" in said) == (0, True), said
    gateway.status = 403
    status, _, said = run("--origin", ORIGIN)
    assert (status, "the preflight request is answered with 403" in said) == (1, True)


def test_a_folder_needs_no_rules(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MMAUDIO_STORAGE_URL")
    status, printed, said = run()
    assert (status, printed, "needs no CORS rules" in said) == (1, "", True)


@pytest.mark.parametrize(
    "origin", ["sounds.example.com", "https://a.example/x", "https://u:p@a.example", "https://a:x"]
)
def test_an_origin_that_is_none_is_refused(bucket: str, origin: str) -> None:
    status, _, said = run("--origin", origin)
    assert (status, "such as https://sounds.example.com" in said) == (2, True)


@pytest.mark.parametrize(
    ("settings", "origins"),
    [
        ({}, ["http://127.0.0.1:8000", "http://localhost:8000"]),
        ({"public_url": "https://Sounds.example.com/audio/"}, ["https://sounds.example.com"]),
        ({"allowed_hosts": ["a.example", "*.b.example"]}, ["https://a.example", "https://*.b.example"]),
        ({"public_url": "https://a.example", "allowed_hosts": ["a.example"]}, ["https://a.example"]),
        ({"api_bind": "0.0.0.0:8000"}, []),
    ],
)
def test_origins_come_from_the_settings(settings: dict[str, Any], origins: list[str]) -> None:
    assert origins_of(Settings(**settings)) == origins


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"AllowedOrigins": ["https://*.example.com"]}, []),
        ({"AllowedOrigins": ["*"], "AllowedHeaders": ["*"], "ExposeHeaders": ["etag"]}, []),
        ({"AllowedOrigins": ["https://sounds.example.org"]}, ["GET", "HEAD", "POST", "PUT"]),
        ({"AllowedMethods": ["GET", "HEAD", "PUT"]}, ["POST"]),
        ({"AllowedHeaders": ["range", "content-type"]}, ["PUT"]),
        ({"ExposeHeaders": []}, ["ETag"]),
    ],
)
def test_rules_are_compared_as_the_server_does(change: dict[str, Any], said: list[str]) -> None:
    (rule,) = required_rules([ORIGIN])["CORSRules"]
    missing = missing_in_rules([{**rule, **change}], [ORIGIN])
    assert len(missing) == len(said)
    assert all(word in text for word, text in zip(said, missing, strict=True))
