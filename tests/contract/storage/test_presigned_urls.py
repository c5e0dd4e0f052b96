"""Signed URLs name the address that callers use, and only they do."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import httpx
import pytest

from jobs.settings import Settings
from jobs.storage.s3.client import ClientOptions
from jobs.storage.s3.store import S3Store
from local_services.faulty_http import FaultSchedule, faulty_proxy

PUBLIC = "https://files.example.com"


@dataclass
class Gateway:
    """A store whose callers come through another address than the platform."""

    store: S3Store
    schedule: FaultSchedule
    url: str


@pytest.fixture
def gateway(s3_endpoint: str) -> Iterator[Gateway]:
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    schedule = FaultSchedule()
    with faulty_proxy(s3_endpoint, schedule) as url:
        options = ClientOptions(s3_endpoint, addressing_style="path")
        yield Gateway(S3Store(f"s3://{bucket}/p", options, public_endpoint_url=url), schedule, url)


def get_url(store: S3Store) -> str:
    return str(store.presigned_get("k", expires_s=60, filename="a.flac", content_type="audio/flac"))


def form(store: S3Store, size_bytes: int = 5) -> tuple[str, dict[str, str]]:
    target = store.upload_target(
        "k", size_bytes=size_bytes, content_type="video/mp4", sha256=None, expires_s=60, now=datetime.now(UTC)
    )
    assert target is not None
    return target.url, dict(target.fields)


def test_callers_use_the_public_address_and_the_platform_its_own(gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"sound")
    gateway.store.put_file("k", tmp_path / "x", content_type="audio/flac")
    gateway.store.check()
    assert gateway.schedule.requests == []

    url = get_url(gateway.store)
    assert url.startswith(f"{gateway.url}/")
    assert httpx.get(url).content == b"sound"
    post, fields = form(gateway.store)
    assert post.startswith(f"{gateway.url}/")
    assert httpx.post(post, data=fields, files={"file": b"video"}).is_success
    assert b"".join(gateway.store.open_read("k")) == b"video"
    assert [method for method, _, _ in gateway.schedule.requests] == ["GET", "POST"]


@pytest.mark.parametrize(
    ("style", "host", "path"),
    [("path", "files.example.com", "/videos/p/k"), ("virtual", "videos.files.example.com", "/p/k")],
)
def test_the_public_address_has_the_addressing_style_of_the_settings(style: str, host: str, path: str) -> None:
    settings = Settings(
        storage_url="s3://videos/p",
        s3_endpoint_url="http://10.0.0.7:9000",
        s3_public_endpoint_url=PUBLIC,
        s3_addressing_style=style,
        s3_region="us-east-1",
    )
    store = S3Store.from_settings(settings.storage_url, settings)
    got, posted = urlsplit(get_url(store)), urlsplit(form(store)[0])

    assert (got.scheme, got.hostname, got.path) == ("https", host, path)
    assert (posted.scheme, posted.hostname) == ("https", host)
    assert "10.0.0.7" not in get_url(store) + str(form(store))


def test_without_the_setting_urls_have_the_address_of_the_platform(s3_endpoint: str) -> None:
    store = S3Store("s3://videos", ClientOptions(s3_endpoint, addressing_style="path"))
    assert get_url(store).startswith(f"{s3_endpoint}/videos/k?")
