"""Uploads and artifacts: signed links, sizes, ranges, names."""

from __future__ import annotations

import hashlib
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from api.body_limits import MAX_JSON_BYTES
from api.context import EXTENSION
from jobs.db.tables import Upload
from tests.unit.api.conftest import Harness

_NAMES = json.loads((Path(__file__).parents[2] / "data" / "names.json").read_text())
NAMES = _NAMES["files_in_names_dir"] + _NAMES["send_as_upload_filename_or_s3_key"]


def announce(harness: Harness, **fields: Any) -> Any:
    body = {"filename": "a.mp4", "size_bytes": 5, **fields}
    return harness.client.post("/v1/uploads", json=body)


def send(harness: Harness, announced: Any, data: bytes) -> Any:
    how = announced.json["upload"]
    return harness.client.open(how["url"], method=how["method"], data=data, headers=how["headers"])


def test_an_upload_is_announced_sent_and_used(harness: Harness) -> None:
    announced = announce(harness, sha256=hashlib.sha256(b"video").hexdigest())
    assert announced.status_code == 201
    assert send(harness, announced, b"video").status_code == 204
    shown = harness.client.get(f"/v1/uploads/{announced.json['id']}").json or {}
    assert (shown["state"], "upload" in shown) == ("ready", False)
    assert harness.submit(video=announced.json["id"])["request"]["mux"] is True


@pytest.mark.parametrize(
    ("fields", "data", "status"),
    [
        ({}, b"videos", 413),
        ({}, b"vide", 422),
        ({}, b"", 422),
        ({"sha256": "0" * 64}, b"video", 422),
    ],
)
def test_other_bytes_than_announced_are_refused_and_not_usable(
    harness: Harness, fields: dict[str, Any], data: bytes, status: int
) -> None:
    announced = announce(harness, **fields)
    assert send(harness, announced, data).status_code == status
    refused = harness.client.post("/v1/jobs", json={"video": announced.json["id"]})
    assert (refused.status_code, refused.json["errors"][0]["field"]) == (422, "video")  # type: ignore[index]


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({"size_bytes": 1001}, 413),
        ({"size_bytes": 0}, 422),
        ({"size_bytes": "5"}, 422),
        ({"sha256": "xyz"}, 422),
        ({"filename": ""}, 422),
        ({"content_type": "video/mp4\r\nX-Evil: 1"}, 422),
        ({"colour": 1}, 422),
    ],
)
def test_an_announcement_that_cannot_be_kept_is_refused(harness: Harness, fields: dict[str, Any], status: int) -> None:
    assert announce(harness, **fields).status_code == status


def test_a_forged_or_expired_upload_link_is_refused(harness: Harness) -> None:
    announced = announce(harness)
    url = announced.json["upload"]["url"]
    for forged in (
        url[:-1] + ("0" if url[-1] != "0" else "1"),
        url.partition("?")[0],
        url.replace("expires=", "expires=9"),
    ):
        assert harness.client.put(forged, data=b"video").status_code == 403
    harness.clock.advance(3601)
    assert harness.client.put(url, data=b"video").status_code == 403


def test_a_complete_upload_cannot_be_replaced(harness: Harness) -> None:
    announced = announce(harness)
    assert send(harness, announced, b"video").status_code == 204
    assert send(harness, announced, b"other").status_code == 409


@pytest.mark.parametrize("size_bytes", [1000, 3 * MAX_JSON_BYTES])
@pytest.mark.parametrize("ended_by_server", [False, True])
def test_an_upload_may_be_larger_than_a_json_body_may(harness: Harness, size_bytes: int, ended_by_server: bool) -> None:
    here = harness.app.extensions[EXTENSION]
    settings = here.settings.model_copy(update={"max_upload_bytes": size_bytes})
    harness.app.extensions[EXTENSION] = replace(here, settings=settings)
    announced = announce(harness, size_bytes=size_bytes).json
    sent = harness.client.put(
        announced["upload"]["url"],
        data=bytes(size_bytes),
        # Granian sets this; without it bodies end at their announced length.
        environ_overrides={"wsgi.input_terminated": ended_by_server},
    )

    assert sent.status_code == 204
    shown = harness.client.get(f"/v1/uploads/{announced['id']}").json or {}
    assert (shown["state"], shown["size_bytes"]) == ("ready", size_bytes)


def test_an_expired_upload_takes_no_bytes(harness: Harness) -> None:
    announced = announce(harness)
    with harness.db.transaction() as tx:
        tx.session.get_one(Upload, announced.json["id"]).expires_at = harness.clock.time
    answer = send(harness, announced, b"video")
    assert (answer.status_code, (answer.json or {})["code"]) == (410, "upload_expired")
    assert list(harness.store.list_keys("uploads/")) == []


def test_content_sent_directly_to_the_store_makes_an_upload_ready(harness: Harness) -> None:
    announced = announce(harness)
    upload_id = announced.json["id"]

    def put(data: bytes) -> str:
        harness.store.put_stream(
            f"uploads/{upload_id}/content", io.BytesIO(data), content_type="video/mp4", max_bytes=len(data)
        )
        return str((harness.client.get(f"/v1/uploads/{upload_id}").json or {})["state"])

    assert put(b"vid") == "pending"
    assert put(b"video") == "ready"


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_hostile_file_names_stay_data(harness: Harness, name: str, tmp_path: Path) -> None:
    before = {path for path in tmp_path.parent.rglob("*") if "objects" not in path.parts}
    answer = announce(harness, filename=name)
    assert answer.status_code in {201, 422}
    if answer.status_code == 201:
        assert answer.json["filename"] == name
        assert send(harness, answer, b"video").status_code == 204
    outside = {path for path in tmp_path.parent.rglob("*") if "objects" not in path.parts} - before
    assert not {path for path in outside if path.is_file() and not path.name.startswith("mmaudio.db")}


def artifact_url(harness: Harness) -> str:
    job = harness.submit()
    harness.succeed(job["id"])
    return str((harness.client.get(job["links"]["self"]).json or {})["artifacts"][0]["url"])


def test_an_artifact_is_served_whole_with_safe_headers(harness: Harness) -> None:
    answer = harness.client.get(artifact_url(harness))
    assert (answer.status_code, answer.data, answer.content_type) == (200, b"0123456789", "audio/flac")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Content-Disposition"] == 'inline; filename="audio.flac"'


@pytest.mark.parametrize(
    ("filename", "shown"),
    [
        ("walk.mp4", 'filename="walk.flac"'),
        ("/srv/in/ünï walk.v2.mov", """filename="_n_ walk.v2.flac"; filename*=UTF-8''%C3%BCn%C3%AF%20walk.v2.flac"""),
        ('a"; x="b.mp4', 'filename="a-; x=-b.flac"'),
        ("..", 'filename="audio.flac"'),
    ],
)
def test_a_download_is_named_after_the_file_that_was_uploaded(harness: Harness, filename: str, shown: str) -> None:
    upload = announce(harness, filename=filename)
    send(harness, upload, b"video")
    job = harness.submit(video=upload.json["id"])
    harness.succeed(job["id"])
    (url,) = [one["url"] for one in (harness.client.get(job["links"]["self"]).json or {})["artifacts"]]
    assert harness.client.get(url).headers["Content-Disposition"] == f"inline; {shown}"
    assert harness.client.get(f"{url}&download=1").headers["Content-Disposition"] == f"attachment; {shown}"


def test_a_download_is_not_named_after_a_file_of_another_tenant(harness: Harness) -> None:
    upload = announce(harness, filename="secret.mp4")
    send(harness, upload, b"video")
    job = harness.submit(video=upload.json["id"])
    harness.succeed(job["id"])
    (url,) = [one["url"] for one in (harness.client.get(job["links"]["self"]).json or {})["artifacts"]]
    with harness.db.transaction() as tx:
        tx.session.get_one(Upload, upload.json["id"]).tenant = "another"
    assert harness.client.get(url).headers["Content-Disposition"] == 'inline; filename="audio.flac"'


@pytest.mark.parametrize(
    ("wanted", "status", "data", "content_range"),
    [
        ("bytes=2-4", 206, b"234", "bytes 2-4/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=-2", 206, b"89", "bytes 8-9/10"),
        ("bytes=8-99", 206, b"89", "bytes 8-9/10"),
        ("bytes=-99", 206, b"0123456789", "bytes 0-9/10"),
        ("bytes=10-", 416, None, "bytes */10"),
        ("bytes=0-1,4-5", 200, b"0123456789", None),
        ("lines=1-2", 200, b"0123456789", None),
        ("nonsense", 200, b"0123456789", None),
    ],
)
def test_ranges(harness: Harness, wanted: str, status: int, data: bytes | None, content_range: str | None) -> None:
    answer = harness.client.get(artifact_url(harness), headers={"Range": wanted})
    assert answer.status_code == status
    assert answer.headers.get("Content-Range") == content_range
    if data is not None:
        assert answer.data == data


def test_a_matching_etag_gets_304_without_content(harness: Harness) -> None:
    url = artifact_url(harness)
    etag = harness.client.get(url).headers["ETag"]
    for headers in ({"If-None-Match": etag}, {"If-None-Match": etag, "Range": "bytes=0-1"}, {"If-None-Match": "*"}):
        answer = harness.client.get(url, headers=headers)
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag)
    assert harness.client.get(url, headers={"If-None-Match": '"other"'}).status_code == 200


def test_head_tells_the_size_and_takes_no_range(harness: Harness) -> None:
    answer = harness.client.head(artifact_url(harness), headers={"Range": "bytes=0-1"})
    assert (answer.status_code, answer.headers["Content-Length"], answer.data) == (200, "10", b"")


def test_head_is_not_redirected_to_the_object_store(harness: Harness, monkeypatch: pytest.MonkeyPatch) -> None:
    url = artifact_url(harness)
    monkeypatch.setattr(harness.store, "presigned_get", lambda *_, **__: "https://store.example/x?for=GET")
    assert harness.client.get(url).status_code == 302
    assert harness.client.head(url).status_code == 200


def test_artifact_links_are_signed_and_expire(harness: Harness) -> None:
    url = artifact_url(harness)
    assert harness.client.get(url + "0").status_code == 403
    assert harness.client.get(url.replace("audio.flac", "video.mp4")).status_code == 403
    harness.clock.advance(3600 + 601)
    assert harness.client.get(url).status_code == 403


def test_an_expired_artifact_is_said_to_be_expired(harness: Harness) -> None:
    job = harness.submit()
    harness.succeed(job["id"])
    harness.clock.advance(3601)
    artifact = (harness.client.get(job["links"]["self"]).json or {})["artifacts"][0]
    assert (artifact["expired"], artifact["url"]) == (True, None)
    gone = harness.client.get(f"/v1/jobs/{job['id']}/artifacts/audio.flac")
    assert (gone.status_code, (gone.json or {})["code"]) == (410, "artifact_expired")


def test_a_file_that_was_never_made_is_404(harness: Harness) -> None:
    job = harness.submit()
    assert harness.client.get(f"/v1/jobs/{job['id']}/artifacts/audio.flac").status_code == 404
