"""The client and the API agree about the calls around jobs: batches, presets, keys, counts, deletion, events."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

from jobs.api_keys.scope import KeyScope
from mmaudio_client import (
    ApiError,
    Client,
    ConflictError,
    GoneError,
    InvalidRequestError,
    NotFoundError,
    UploadInterruptedError,
)
from mmaudio_client.cli import main
from mmaudio_client.stored_keys import StoredKeys
from tests.unit.api.conftest import Harness
from tests.unit.api.test_key_check import need_keys, new_key


@pytest.fixture
def client(harness: Harness) -> Iterator[Client]:
    transport = httpx.WSGITransport(app=harness.app)
    with Client("http://127.0.0.1", transport=transport, patience_s=0, sleep=lambda _: None) as client:
        yield client


def test_a_batch_is_created_followed_and_canceled(client: Client) -> None:
    batch = client.batches.create([{"prompt": "rain"}, {"prompt": "wind", "seed": 7}], name="tonight")
    assert (batch.total, batch.state, batch.counts["queued"], batch.name) == (2, "active", 2, "tonight")
    jobs = [*client.batches.jobs(batch)]
    assert {job.batch_index for job in jobs} == {0, 1}
    assert {job.batch for job in jobs} == {batch.id}
    assert [one.id for one in client.batches.list()] == [batch.id]
    assert client.batches.cancel(batch).ended
    assert client.batches.wait(batch).counts["canceled"] == 2
    assert client.batches.cancel(batch).id == batch.id
    with pytest.raises(NotFoundError):
        client.batches.get("bat_none")


def test_a_batch_with_a_wrong_request_names_its_place(client: Client) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        client.batches.create([{"prompt": "rain"}, {"num_steps": 0}])
    assert any("1" in name for name in refused.value.fields)
    assert [*client.batches.list()] == []


def test_a_preset_fills_the_fields_of_a_job(client: Client) -> None:
    assert client.presets.put("film", {"loudness_lufs": -23, "num_steps": 30}).version == 1
    assert client.presets.put("film", {"loudness_lufs": -16}, description="Loud").version == 2
    assert [one.version for one in client.presets.versions("film")] == [2, 1]
    assert [one.name for one in client.presets.list()] == ["film"]
    assert client.presets.get("film", version=1).request["num_steps"] == 30
    request = client.submit(prompt="rain", preset="film").request
    assert (request.loudness_lufs, request.preset) == (-16, "film@2")
    client.presets.delete("film")
    with pytest.raises(NotFoundError):
        client.presets.get("film")


def test_jobs_are_counted_found_changed_and_deleted(client: Client) -> None:
    job = client.submit(prompt="rain on tin", seed=7, metadata={"shot": "12"})
    other = client.submit(prompt="wind")
    assert client.counts() == {"queued": 2, "running": 0, "succeeded": 0, "failed": 0, "canceled": 0, "total": 2}
    assert [one.id for one in client.list(q="TIN")] == [job.id]
    assert [one.id for one in client.list(state=["queued", "running"], ids=[other.id])] == [other.id]
    with pytest.raises(ConflictError):
        client.delete(job)
    client.cancel(job)
    changed = client.retry(job, changes={"prompt": "hail", "seed": None})
    assert (changed.request.prompt, changed.retry_of) == ("hail", job.id)
    assert changed.request.seed != 7
    client.delete(job)
    client.delete(job)
    with pytest.raises(GoneError):
        client.get(job)


def test_keys_are_made_rotated_and_revoked(client: Client) -> None:
    key = client.keys.create(scopes=["jobs:read"], name="ci")
    assert key["key"]
    rotated = client.keys.rotate(key["id"], grace_s=60)
    assert rotated["key"] != key["key"]
    client.keys.revoke(rotated["id"])
    assert {one["id"] for one in client.keys.list()} == {key["id"], rotated["id"]}
    assert [one["id"] for one in client.keys.list(active=True)] == [key["id"]]
    with pytest.raises(NotFoundError):
        client.keys.get("key_none")


def test_the_events_of_a_job_are_read_and_streamed(client: Client) -> None:
    job = client.submit(prompt="rain")
    client.cancel(job)
    stored = [*client.stored_events(job)]
    assert stored[0].kind == "queued"
    assert stored[-1].state == "canceled"
    assert [event.id for event in client.events(job)] == [event.id for event in stored]
    assert [*client.events(job, after=stored[-1].id or 0)] == []
    assert [event.id for event in client.stored_events()] == [event.id for event in stored]


class Cut(httpx.BaseTransport):
    """Passes on requests, but loses every `lost`-th part of an upload after some bytes of it."""

    def __init__(self, app: Any) -> None:
        self.inner, self.parts, self.lost = httpx.WSGITransport(app=app), 0, 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.method == "PUT":
            self.parts += 1
            if self.lost and self.parts % self.lost == 0:
                raise httpx.WriteError("reset by peer", request=request)
        return self.inner.handle_request(request)


@pytest.fixture
def content(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """A file that is large enough for four parts."""
    monkeypatch.setattr("mmaudio_client.uploads.LEAST_BYTES", 900)
    monkeypatch.setattr("jobs.service.uploads.part_bytes_for", lambda size_bytes, wanted: 256)
    return bytes(range(250)) * 4


def test_a_large_file_is_uploaded_in_parts_over_cut_connections(harness: Harness, content: bytes) -> None:
    transport = Cut(harness.app)
    seen: list[int] = []
    with Client("http://127.0.0.1", transport=transport, sleep=lambda _: None) as client:
        client.counts()
        transport.lost = 2
        upload_id = client.upload(content, filename="walk.mp4", on_progress=lambda done, _: seen.append(done))
        assert client.submit(video=upload_id, prompt="rain").request.video == upload_id
        document = client.request("GET", f"/v1/uploads/{upload_id}")
    assert (document["state"], document["size_bytes"]) == ("ready", len(content))
    assert seen[-1] == len(content)


def test_an_upload_goes_on_in_another_client(harness: Harness, content: bytes) -> None:
    transport = Cut(harness.app)
    transport.lost = 1
    with Client("http://127.0.0.1", transport=transport, patience_s=0, sleep=lambda _: None) as client:
        with pytest.raises(UploadInterruptedError) as interrupted:
            client.upload(content)
        transport.lost = 0
        with pytest.raises(ApiError, match="another file"):
            client.upload(content[1:], resume=interrupted.value.upload_id)
        assert client.upload(content, resume=interrupted.value.upload_id) == interrupted.value.upload_id


@pytest.mark.parametrize(
    ("scopes", "code"), [((KeyScope.JOBS_READ,), 0), ((KeyScope.JOBS_WRITE,), 0), ((KeyScope.ADMIN,), 0), ((), 3)]
)
def test_login_stores_a_key_that_the_server_takes(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scopes: tuple[KeyScope, ...], code: int
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("MMAUDIO_API_KEY", raising=False)
    need_keys(harness)
    key = new_key(harness, *scopes) if scopes else "mma_" + "A" * 43
    opened = functools.partial(Client, transport=httpx.WSGITransport(app=harness.app))
    monkeypatch.setattr("mmaudio_client.cli.session.Client", opened)
    result = CliRunner().invoke(main, ["login", "--api-url", "http://127.0.0.1"], input=f"{key}\n")
    assert result.exit_code == code, result.output
    assert StoredKeys().get("http://127.0.0.1") == (key if code == 0 else None)
    assert ("mmaudio login" in result.stderr) == (code == 3)
