"""Batches, presets, API keys and archives, in Python and as commands."""

from __future__ import annotations

import io
import json
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from mmaudio_client import (
    DownloadError,
    InvalidInputError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
    WrongServerError,
)
from mmaudio_client.cli.exit_codes import ExitCode
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    ScriptedServer,
    job_answer,
    job_document,
    page,
    problem,
    upload_answer,
)

BATCH_ID = "bat_1"
NO_BATCH = {"data": [], "next_cursor": None, "links": {"next": None}}


def batch_document(state: str = "active", **members: Any) -> dict[str, Any]:
    done = state == "finished"
    return {
        "id": BATCH_ID,
        "name": "tonight",
        "state": state,
        "total": 3,
        "counts": {"queued": 0 if done else 2, "running": 0, "succeeded": 3 if done else 1, "failed": 0, "canceled": 0},
        "progress": 1.0 if done else 0.33,
        "cancel_requested": False,
        "metadata": {},
        "webhook_url": None,
        "created_at": "2026-01-01T00:00:00.000Z",
        "finished_at": "2026-01-01T00:01:00.000Z" if done else None,
        "links": {"self": f"/v1/batches/{BATCH_ID}", "jobs": f"/v1/jobs?batch={BATCH_ID}", "cancel": None},
        **members,
    }


def preset_document(version: int = 2, **members: Any) -> dict[str, Any]:
    return {
        "name": "film",
        "version": version,
        "description": "Loud",
        "request": {"loudness_lufs": -16},
        "created_at": "2026-01-01T00:00:00.000Z",
        "links": {"self": "/v1/presets/film", "version": f"/v1/presets/film?version={version}"},
        **members,
    }


def answer(document: Any, status: int = 200) -> httpx.Response:
    return httpx.Response(status, json=document)


def sent(server: ScriptedServer, place: int = -1) -> Any:
    return json.loads(server.requests[place].content)


def test_a_batch_uploads_each_file_once(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"a")
    server.answers = [upload_answer(), answer({}), upload_answer("upl_2"), answer({}), answer(batch_document(), 202)]
    requests = [
        {"video": "a.mp4", "prompt": "rain", "seed": None},
        {"video": Path("a.mp4"), "prompt": "wind"},
        {"image": b"bytes", "prompt": "sea"},
        {"video": "s3://bucket/b.mp4"},
    ]
    batch = server.client().batches.create(requests, name="tonight", metadata={"k": "v"})
    assert sent(server) == {
        "requests": [
            {"video": "upl_1", "prompt": "rain"},
            {"video": "upl_1", "prompt": "wind"},
            {"image": "upl_2", "prompt": "sea"},
            {"video": "s3://bucket/b.mp4"},
        ],
        "name": "tonight",
        "metadata": {"k": "v"},
    }
    assert server.requests[-1].headers["Idempotency-Key"]
    assert (batch.total, batch.ended, batch.created_at) == (3, False, datetime(2026, 1, 1, tzinfo=UTC))


def test_a_batch_with_a_missing_file_is_not_created(server: ScriptedServer) -> None:
    with pytest.raises(InvalidInputError):
        server.client().batches.create([{"prompt": "rain"}, {"video": "missing.mp4"}])
    assert server.requests == []


def test_a_batch_is_waited_for_and_its_jobs_listed(server: ScriptedServer) -> None:
    client = server.client()
    server.answers = [answer(batch_document()), httpx.Response(503), answer(batch_document("finished"))]
    assert client.batches.wait(BATCH_ID).ended
    server.answers = [page(job_document(), following="/v1/jobs?cursor=c"), page()]
    assert [job.id for job in client.batches.jobs(BATCH_ID, state="failed")] == [JOB_ID]
    assert dict(server.requests[-2].url.params) == {"batch": BATCH_ID, "state": "failed", "limit": "200"}
    server.answers = [answer(batch_document())]
    with pytest.raises(WaitTimeoutError, match="1 of 3 jobs of bat_1 have ended after 0 s"):
        client.batches.wait(BATCH_ID, timeout_s=0)


def test_batches_are_listed_watched_and_canceled(server: ScriptedServer) -> None:
    client = server.client()
    server.answers = [answer({**NO_BATCH, "data": [batch_document()]})]
    assert [one.id for one in client.batches.list()] == [BATCH_ID]
    server.answers = [answer(batch_document()), answer(batch_document("finished"))]
    assert [one.state for one in client.batches.watch(BATCH_ID)] == ["active", "finished"]
    server.answers = [answer(batch_document(cancel_requested=True), 202)]
    assert client.batches.cancel(BATCH_ID).cancel_requested
    server.answers = [answer({"id": "x"})]
    with pytest.raises(WrongServerError, match="not a batch"):
        client.batches.get(BATCH_ID)


@pytest.mark.parametrize(
    "text",
    [
        '[{"prompt": "rain"}, {"prompt": "wind"}]',
        '{"requests": [{"prompt": "rain"}, {"prompt": "wind"}]}',
        '{"prompt": "rain"}\n\n{"prompt": "wind"}\n',
    ],
)
def test_a_file_of_requests_becomes_a_batch(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path, text: str
) -> None:
    (tmp_path / "requests.json").write_text(text)
    server.answers = [answer(batch_document(), 202)]
    assert mmaudio("batches", "create", "requests.json", "--idempotency-key", "k").stdout == f"{BATCH_ID}\n"
    assert sent(server) == {"requests": [{"prompt": "rain"}, {"prompt": "wind"}]}
    assert server.requests[0].headers["Idempotency-Key"] == "k"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"prompt": "rain"}\n{half', "Line 2 of requests.json is not JSON"),
        ('{"prompt": "rain"}\n7', "Line 2 of requests.json is not a JSON object"),
        ("[7]", "does not hold a list of requests"),
        ("7", "does not hold a list of requests"),
        ('{"prompt": NaN}', "is not JSON"),
        ("\udcff", "is not UTF-8"),
    ],
)
def test_a_file_of_another_form_is_wrong_use(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path, text: str, said: str
) -> None:
    (tmp_path / "requests.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    result = mmaudio("batches", "create", "requests.json")
    assert result.exit_code == ExitCode.USAGE
    assert said in result.stderr
    assert server.requests == []


def test_the_batch_commands_say_how_far_it_is(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [answer(batch_document())]
    assert mmaudio("batches", "status", BATCH_ID).stdout == "bat_1: active (33%), 3 jobs: 2 queued, 1 succeeded\n"
    server.answers = [answer({**NO_BATCH, "data": [batch_document()]})]
    assert mmaudio("batches", "list").stdout == "bat_1\tactive\t3\t2026-01-01T00:00:00Z\ttonight\n"
    server.answers = [answer(batch_document())]
    assert json.loads(mmaudio("batches", "cancel", BATCH_ID, "--json").stdout)["id"] == BATCH_ID


@pytest.mark.parametrize(
    ("counts", "code"),
    [
        ({"succeeded": 3}, ExitCode.OK),
        ({"succeeded": 2, "canceled": 1}, ExitCode.CANCELED),
        ({"failed": 1, "canceled": 2}, ExitCode.FAILED),
    ],
)
def test_the_exit_code_says_how_a_batch_ended(
    mmaudio: Command, server: ScriptedServer, counts: dict[str, int], code: ExitCode
) -> None:
    server.answers = [answer(batch_document()), answer(batch_document("finished", counts=counts))]
    assert mmaudio("batches", "watch", BATCH_ID).exit_code == code


def test_presets_are_put_read_and_deleted(server: ScriptedServer) -> None:
    client = server.client()
    server.answers = [answer(preset_document(), 201)]
    preset = client.presets.put("film", {"loudness_lufs": -16}, description="Loud")
    assert (preset.name, preset.version, preset.request) == ("film", 2, {"loudness_lufs": -16})
    assert (server.asked[-1][:3], sent(server)) == (
        "PUT",
        {"request": {"loudness_lufs": -16}, "description": "Loud"},
    )
    server.answers = [answer(preset_document(1))]
    assert client.presets.get("film", version=1).version == 1
    assert server.requests[-1].url.params["version"] == "1"
    listed = {"data": [preset_document()], "next_cursor": "c", "links": {"next": "/v1/presets?cursor=c"}}
    server.answers = [answer(listed), answer({**listed, "next_cursor": None, "links": {"next": None}})]
    assert len([*client.presets.list()]) == 2
    server.answers = [answer({"data": [preset_document(), preset_document(1)]})]
    assert [one.version for one in client.presets.versions("film")] == [2, 1]
    server.answers = [httpx.Response(204)]
    client.presets.delete("../film")
    assert server.requests[-1].url.raw_path == b"/v1/presets/..%2Ffilm"
    server.answers = [problem(404, "preset_not_found")]
    with pytest.raises(NotFoundError):
        client.presets.get("none")


def test_the_preset_commands(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [answer(preset_document(), 201)]
    assert mmaudio("presets", "put", "film", '{"loudness_lufs": -16}').stdout.startswith("film@2: Loud\n{")
    assert mmaudio("presets", "put", "film", "[7]").exit_code == ExitCode.USAGE
    server.answers = [answer({"data": [preset_document()], "next_cursor": None, "links": {"next": None}})]
    assert mmaudio("presets", "list").stdout == "film\t2\t2026-01-01T00:00:00Z\tLoud\n"
    server.answers = [answer({"data": [preset_document(), preset_document(1)]})]
    assert len(mmaudio("presets", "list", "film", "--json").stdout.splitlines()) == 2
    server.answers = [answer(preset_document())]
    assert json.loads(mmaudio("presets", "show", "film", "--json").stdout)["version"] == 2
    server.answers = [httpx.Response(204)]
    assert mmaudio("presets", "delete", "film").stdout == "film: deleted\n"


def test_a_job_takes_a_preset_and_a_webhook(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer()]
    options = ["--preset", "film@2", "--webhook-url", "https://example.com/hook", "--no-wait"]
    mmaudio("submit", "--prompt", "rain", *options)
    assert sent(server) == {"prompt": "rain", "preset": "film@2", "webhook_url": "https://example.com/hook"}
    server.answers = [job_answer(request={"prompt": "x", "webhook_events": ["failed"]})]
    job = server.client().submit(prompt="x", webhook_url="https://example.com", webhook_events=("failed",))
    assert job.request.webhook_events == ("failed",)


def test_keys_are_created_once_and_shown(server: ScriptedServer) -> None:
    client = server.client()
    key = {"id": "key_1", "scopes": ["admin"], "key": "mma_secret"}
    server.answers = [answer(key, 201)]
    expires = datetime(2027, 1, 1, tzinfo=UTC)
    assert client.keys.create(scopes=["admin"], name="ci", expires_at=expires)["key"] == "mma_secret"
    assert sent(server) == {"scopes": ["admin"], "name": "ci", "expires_at": "2027-01-01T00:00:00+00:00"}
    first = {"data": [key], "next_cursor": "c"}
    server.answers = [answer(first), answer({**first, "next_cursor": None})]
    assert len([*client.keys.list(tenant="a", active=True)]) == 2
    assert dict(server.requests[-1].url.params) == {"tenant": "a", "active": "true", "cursor": "c"}
    server.answers = [answer(key), answer(key, 201), httpx.Response(204)]
    assert client.keys.get("key_1")["id"] == "key_1"
    assert client.keys.rotate("key_1", grace_s=60)["key"] == "mma_secret"
    assert sent(server) == {"grace_s": 60}
    client.keys.revoke("key_1", tenant="a")
    assert server.asked[-1].startswith("DELETE")
    assert server.asked[-1].endswith("/v1/api-keys/key_1?tenant=a")


def test_a_key_is_not_created_twice_when_the_answer_is_lost(server: ScriptedServer) -> None:
    server.answers = [httpx.ReadError("reset")]
    with pytest.raises(UnavailableError):
        server.client().keys.create(scopes=["jobs:read"])


def archive() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as opened:
        opened.writestr("audio.flac", b"sound")
    return content.getvalue()


def zipped(**members: Any) -> httpx.Response:
    links = {"self": f"/v1/jobs/{JOB_ID}", "archive": f"/v1/jobs/{JOB_ID}/artifacts.zip?signature=x"}
    return job_answer("succeeded", request={"prompt": "rain"}, links=links, **members)


def test_all_files_are_saved_as_one_zip(server: ScriptedServer, tmp_path: Path) -> None:
    client, content = server.client(), archive()
    server.answers = [zipped(), httpx.Response(503), httpx.Response(200, content=content)]
    assert client.download_archive(JOB_ID) == Path("rain.zip")
    assert (tmp_path / "rain.zip").read_bytes() == content
    server.answers = [zipped(), httpx.Response(200, content=content)]
    assert client.download_archive(JOB_ID, name="walk.mp4", folder="a") == Path("a/walk.zip")
    server.answers = [zipped(), httpx.Response(200, content=content)]
    assert client.download_archive(JOB_ID).name == "rain-2.zip"


@pytest.mark.parametrize("content", [b"", b"no zip", archive()[:-10], archive().replace(b"sound", b"noise")])
def test_a_damaged_zip_is_not_kept(server: ScriptedServer, tmp_path: Path, content: bytes) -> None:
    server.answers = [zipped(), httpx.Response(200, content=content)]
    with pytest.raises(DownloadError, match="damaged"):
        server.client().download_archive(JOB_ID)
    assert [path for path in tmp_path.iterdir() if path.is_file()] == []


def test_a_job_without_an_archive_says_so(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("succeeded"), job_answer("succeeded")]
    result = mmaudio("download", JOB_ID, "--zip")
    assert result.exit_code == ExitCode.FILES
    assert "has no archive of its files" in result.stderr


def test_a_preset_is_shown_without_what_a_terminal_would_obey(mmaudio: Command, server: ScriptedServer) -> None:
    trick = "\x1b]0;a\x07\x9b31mb\u202ec\u00e9"
    server.answers = [answer(preset_document(description=trick, request={"prompt": trick}))]
    shown = mmaudio("presets", "show", "film").stdout
    assert shown.replace("\n", "").isprintable(), shown
    assert json.loads(shown.partition("\n")[2]) == {"prompt": trick}
    assert "\u00e9" in shown
