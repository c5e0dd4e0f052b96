"""The official client of fal against the running product: only its hosts and key differ."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fal_client.client as fal
import httpx
import pytest
from fal_client import AsyncClient, Completed, FalClientHTTPError, SyncClient

from tests.e2e.conftest import RunningPlatform

# The client leaves its connections to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")

APP = "fal-ai/mmaudio-v2"
WORDS = {"prompt": "rain", "duration": 0.64, "num_steps": 2, "seed": 1}


@pytest.fixture(autouse=True)
def _hosts(platform: RunningPlatform, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lead the client to the platform: it has https only from the environment, see the test of TLS."""
    monkeypatch.setattr(fal, "QUEUE_URL_FORMAT", f"{platform.url}/")
    monkeypatch.setattr(fal, "RUN_URL_FORMAT", f"{platform.url}/fal/run/")
    monkeypatch.setattr(fal, "REST_URL", f"{platform.url}/fal/rest")
    monkeypatch.setattr(fal, "CDN_URL", f"{platform.url}/fal/cdn")
    for name in ("http_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def client() -> Iterator[SyncClient]:
    client = SyncClient(key="any")
    yield client
    client._client.close()  # it has no public call for this
    gc.collect()


def test_subscribe_gives_a_video_its_sound(client: SyncClient, demo_video: Path) -> None:
    url = client.upload_file(demo_video)
    seen: list[Any] = []
    given = {"video_url": url, "prompt": "a ball", "num_steps": 2, "duration": 1.0}
    result = client.subscribe(APP, given, with_logs=True, on_queue_update=seen.append)

    video = result["video"]
    assert (video["content_type"], video["file_name"]) == ("video/mp4", "video.mp4")
    data = httpx.get(video["url"], trust_env=False).content
    assert data[4:8] == b"ftyp"
    assert len(data) == video["file_size"]
    assert isinstance(seen[-1], Completed)
    assert any("100%" in line["message"] for line in seen[-1].logs or [])


def test_submit_status_result_and_a_data_url(client: SyncClient, demo_video: Path) -> None:
    handle = client.submit(APP, {**WORDS}, path="/text-to-audio", priority="low", start_timeout=600)
    assert handle.get()["audio"]["content_type"] == "audio/flac"
    status = client.status(APP, handle.request_id, with_logs=True)
    assert isinstance(status, Completed)
    assert status.metrics["inference_time"] > 0
    assert client.result(APP, handle.request_id)["audio"]["file_name"] == "audio.flac"


def test_run_answers_with_the_result_and_stream_sends_it(client: SyncClient) -> None:
    assert "audio" in client.run(f"{APP}/text-to-audio", WORDS)
    assert ["audio" in each for each in client.stream(f"{APP}/text-to-audio", WORDS)] == [True]


def test_cancel_ends_a_request_and_its_result_is_an_error(client: SyncClient) -> None:
    handle = client.submit(APP, {"prompt": "x", "num_steps": 100, "duration": 30}, path="text-to-audio")
    handle.cancel()
    with pytest.raises(FalClientHTTPError) as caught:
        handle.get()
    assert (caught.value.status_code, caught.value.error_type) == (400, "canceled")


def test_a_broken_video_is_the_inputs_fault(client: SyncClient) -> None:
    url = client.upload(b"no video", "video/mp4", "broken.mp4", repository="fal")
    with pytest.raises(FalClientHTTPError) as caught:
        client.subscribe(APP, {"video_url": url, "num_steps": 2})
    assert caught.value.status_code == 422
    assert "video_url" in str(caught.value.message)


def test_the_asynchronous_client(demo_video: Path) -> None:
    async def use() -> None:
        client = AsyncClient(key="any")
        result = await client.subscribe(f"{APP}/text-to-audio", WORDS)
        assert result["audio"]["file_size"] > 0
        handle = await client.submit(f"{APP}/text-to-audio", WORDS)
        assert [type(each) async for each in handle.iter_events()][-1] is Completed
        assert "audio" in await handle.get()
        assert "audio" in await client.run(f"{APP}/text-to-audio", WORDS)
        url = await client.upload_file(demo_video)
        assert "video" in await client.subscribe(APP, {"video_url": url, "num_steps": 2, "duration": 0.64})
        await (await client._client).aclose()

    asyncio.run(use())
    gc.collect()


def test_the_status_stream_ends_with_completed(client: SyncClient) -> None:
    handle = client.submit(f"{APP}/text-to-audio", WORDS)
    with httpx.stream("GET", f"{handle.status_url}/stream?logs=1", trust_env=False, timeout=60) as answer:
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert '"status":"COMPLETED"' in lines[-1]
