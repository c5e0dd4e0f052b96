"""One boto3 client per process and set of options, whatever asks for it and from however many threads."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from jobs.settings import Settings
from jobs.storage.delivery import Delivery
from jobs.storage.s3 import client as module
from jobs.storage.s3.bucket_reader import S3BucketReader
from jobs.storage.s3.client import ClientOptions, s3_client
from jobs.storage.s3.store import S3Store


@dataclass
class FakeBoto3:
    """Counts the clients that are built; each is a new object."""

    built: list[dict[str, Any]] = field(default_factory=list)
    before_build: Callable[[], None] = lambda: None

    def client(self, service: str, **options: Any) -> object:
        self.before_build()
        self.built.append({"service": service, **options})
        return object()


@pytest.fixture
def boto3(monkeypatch: pytest.MonkeyPatch) -> FakeBoto3:
    fake = FakeBoto3()
    monkeypatch.setattr(module, "boto3", SimpleNamespace(session=SimpleNamespace(Session=lambda: fake)))
    monkeypatch.setattr(module, "_clients", {})
    return fake


def test_equal_options_share_one_client(boto3: FakeBoto3) -> None:
    first = s3_client(ClientOptions("http://127.0.0.1:9", addressing_style="path"))
    assert s3_client(ClientOptions("http://127.0.0.1:9", addressing_style="path")) is first
    assert len(boto3.built) == 1
    assert boto3.built[0]["endpoint_url"] == "http://127.0.0.1:9"


@pytest.mark.parametrize(
    "other",
    [
        ClientOptions("http://127.0.0.1:10"),
        ClientOptions(region="eu-west-1"),
        ClientOptions(addressing_style="path"),
        ClientOptions(retry_mode="adaptive"),
        ClientOptions(max_attempts=1),
    ],
)
def test_each_option_makes_another_client(boto3: FakeBoto3, other: ClientOptions) -> None:
    assert s3_client(other) is not s3_client(ClientOptions())
    assert len(boto3.built) == 2


def test_another_credentials_profile_makes_another_client(boto3: FakeBoto3, monkeypatch: pytest.MonkeyPatch) -> None:
    first = s3_client(ClientOptions())
    monkeypatch.setenv("AWS_PROFILE", "another")
    assert s3_client(ClientOptions()) is not first


class CountingLock:
    """A lock that counts who has asked for it."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        self.asked.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_threads_that_ask_at_once_build_one_client(boto3: FakeBoto3, monkeypatch: pytest.MonkeyPatch) -> None:
    threads, lock = 8, CountingLock()
    monkeypatch.setattr(module, "_lock", lock)

    def wait_for_all() -> None:
        """Build only when every thread has found no client."""
        for _ in range(threads):
            assert lock.asked.acquire(timeout=60)

    boto3.before_build = wait_for_all
    with ThreadPoolExecutor(threads) as pool:
        clients = set(pool.map(lambda _: s3_client(ClientOptions()), range(threads)))
    assert len(clients) == len(boto3.built) == 1


def test_stores_deliveries_and_readers_of_one_endpoint_share_the_client(boto3: FakeBoto3) -> None:
    settings = Settings(s3_endpoint_url="http://127.0.0.1:9", s3_addressing_style="path")
    store = S3Store.from_settings("s3://bucket", settings)
    deliveries = [Delivery.from_settings(f"s3://bucket-{n}/", settings, job_id=f"job_{n}", attempt=1) for n in range(3)]
    S3BucketReader.from_settings(settings)
    assert boto3.built == [], "nothing is built before the first call"
    clients = {store._client, *(delivery._store._client for delivery in deliveries)}
    assert clients == {s3_client(ClientOptions.from_settings(settings))}
    assert len(boto3.built) == 1
