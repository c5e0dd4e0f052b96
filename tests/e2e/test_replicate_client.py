"""The official client of Replicate against the running product: only its base URL and key differ."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
from replicate.client import Client
from replicate.exceptions import ModelError, ReplicateError
from replicate.helpers import FileOutput

from tests.e2e.conftest import RunningPlatform

WORDS = {"prompt": "rain", "duration": 0.64, "num_steps": 2, "seed": 1}


@pytest.fixture(scope="module")
def client(platform: RunningPlatform) -> Iterator[Client]:
    client = Client(api_token="any", base_url=platform.url, trust_env=False, headers={})
    yield client
    client._client.close()  # it has no public call for this


def test_run_gives_a_video_its_sound(client: Client, demo_video: Path) -> None:
    with demo_video.open("rb") as file:
        given = {"video": file, "prompt": "a ball", "num_steps": 2, "duration": 1.0}
        output = client.run("zsxkib/mmaudio", input=given, use_file_output=False)

    assert "/artifacts/video.mp4?" in output
    data = FileOutput(output, client).read()
    assert data[4:8] == b"ftyp"


def test_run_of_a_version(client: Client) -> None:
    version = client.models.get("zsxkib/mmaudio").latest_version
    assert version is not None
    reference = f"zsxkib/mmaudio:{version.id}"
    assert "/artifacts/audio.flac?" in client.run(reference, input=WORDS)


def test_run_of_a_file_within_the_input(client: Client, demo_video: Path) -> None:
    given = {"video": demo_video, "num_steps": 2, "duration": 0.64}
    output = client.run("zsxkib/mmaudio", input=given, file_encoding_strategy="base64")
    assert "/artifacts/video.mp4?" in output


def test_async_run_and_its_file(client: Client) -> None:
    async def run() -> bytes:
        async with client._async_client:
            url = await client.async_run("zsxkib/mmaudio", input=WORDS)
            return await FileOutput(url, client).aread()

    assert asyncio.run(run())[:4] == b"fLaC"


def test_predictions_are_created_polled_listed_and_reloaded(client: Client) -> None:
    model = client.models.get("zsxkib", "mmaudio")
    assert model.latest_version is not None
    made = client.predictions.create(version=model.latest_version, input=WORDS)
    assert made.status in {"starting", "processing"}
    made.wait()
    assert (made.status, made.error) == ("succeeded", None)
    assert made.progress is not None
    assert (made.progress.percentage, made.progress.current, made.progress.total) == (1.0, 2, 2)
    assert made.metrics is not None
    assert made.metrics["predict_time"] > 0
    assert client.predictions.get(made.id).output == made.output
    page = client.predictions.list()
    assert made.id in [each.id for each in page.results]


def test_wait_returns_the_end_at_once(client: Client) -> None:
    made = client.models.predictions.create("zsxkib/mmaudio", input=WORDS, wait=30)
    assert made.status == "succeeded"


def test_cancel_stops_a_long_prediction(client: Client) -> None:
    long = {"prompt": "x", "num_steps": 100, "duration": 30}
    made = client.predictions.create(version="tiny_16k", input=long)
    made.cancel()
    made.wait()
    assert made.status == "canceled"
    made.cancel()
    assert made.status == "canceled"


def test_a_failed_prediction_raises_the_clients_error(client: Client, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"no video")
    with pytest.raises(ModelError) as caught:
        client.run("zsxkib/mmaudio", input={"video": broken, "num_steps": 2})
    assert str(caught.value)


def test_what_is_not_allowed_raises_the_clients_error(client: Client) -> None:
    with pytest.raises(ReplicateError) as caught:
        client.run("zsxkib/mmaudio", input={"prompt": "x", "steps": 2})
    assert caught.value.status == 422
    assert "input.steps" in str(caught.value.detail)


def test_the_stream_shows_the_log_and_the_output(client: Client) -> None:
    events = list(client.stream("zsxkib/mmaudio", input=WORDS))
    assert [event.event.value for event in events][-2:] == ["output", "done"]
    assert "100%|██████████| 2/2" in "".join(str(event.data) for event in events if event.event.value == "logs")


def test_files_are_sent_got_listed_and_deleted(client: Client, demo_video: Path) -> None:
    file = client.files.create(demo_video)
    assert (file.name, file.content_type, file.size) == (demo_video.name, "video/mp4", demo_video.stat().st_size)
    assert client.files.get(file.id) == file
    assert file.id in [each.id for each in client.files.list()]
    assert client.files.delete(file.id) is True
    with pytest.raises(ReplicateError):
        client.files.get(file.id)
