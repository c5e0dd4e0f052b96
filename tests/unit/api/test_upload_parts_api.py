"""Resumable uploads over HTTP, on a folder: parts, ranges of one URL, and what is refused."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import urlsplit

import pytest

from api.bounded_store import bounded_store
from api.context import EXTENSION
from jobs.storage.errors import StorageUnavailableError
from tests.unit.api.conftest import Harness
from tests.unit.api.test_key_check import READ, need_keys, new_key

CONTENT = bytes(range(256)) * 3


def announce(harness: Harness, content: bytes = CONTENT, **fields: Any) -> dict[str, Any]:
    body = {"filename": "a.mp4", "size_bytes": len(content), "resumable": True, **fields}
    answer = harness.client.post("/v1/uploads", json=body)
    assert answer.status_code == 201, answer.json
    return dict(answer.json or {})


def parts(harness: Harness, upload: dict[str, Any], query: str = "") -> Any:
    return harness.client.get(upload["parts_url"] + query)


def put(harness: Harness, url: str, content: bytes, content_range: str | None = None) -> Any:
    headers = {"Content-Range": content_range} if content_range is not None else {}
    return harness.client.put(url, data=content, headers=headers)


def complete(harness: Harness, upload: dict[str, Any]) -> Any:
    return harness.client.post(f"/v1/uploads/{upload['id']}/complete")


def test_a_client_that_puts_what_is_missing_gets_a_ready_upload(harness: Harness) -> None:
    change_part_bytes(harness, 300)
    upload = announce(harness, sha256=hashlib.sha256(CONTENT).hexdigest())
    seen = []
    while missing := (listed := parts(harness, upload, "?limit=1").json)["missing"]:
        (part,) = missing
        seen.append((part["number"], part["start"], part["end"], listed["missing_count"], listed["received"]))
        answer = harness.client.open(
            part["url"], method=part["method"], data=CONTENT[part["start"] : part["end"]], headers=part["headers"]
        )
        assert answer.status_code in {202, 204}
    assert seen == [(1, 0, 300, 3, []), (2, 300, 600, 2, [1]), (3, 600, 768, 1, [1, 2])]
    done = complete(harness, upload)
    assert (done.status_code, done.json["state"]) == (200, "ready")
    assert complete(harness, upload).status_code == 200
    listed = parts(harness, upload).json
    assert (listed["missing_count"], listed["received_bytes"], listed["state"]) == (0, len(CONTENT), "ready")
    assert harness.submit(video=upload["id"])["request"]["video"] == upload["id"]


def change_part_bytes(harness: Harness, part_bytes: int) -> None:
    context = harness.app.extensions[EXTENSION]
    context.settings = context.settings.model_copy(update={"upload_part_bytes": part_bytes})


def test_ranges_go_to_one_url_which_says_how_much_is_there(harness: Harness) -> None:
    upload = announce(harness)
    url = upload["upload"]["url"]
    first = put(harness, url, CONTENT[:500], "bytes 0-499/768")
    assert (first.status_code, first.headers["Upload-Offset"], first.json["received_bytes"]) == (202, "500", 500)
    for method in ("GET", "HEAD"):
        asked = harness.client.open(url, method=method)
        assert (asked.status_code, asked.headers["Upload-Offset"]) == (200, "500")
    assert put(harness, url, CONTENT[500:], "bytes 500-767/768").status_code == 204
    assert harness.client.get(url).json["state"] == "ready"
    assert put(harness, url, CONTENT[500:], "bytes 500-767/768").status_code == 204, "an answer may be lost"
    assert put(harness, url, CONTENT).status_code == 204


def test_an_upload_that_was_not_announced_so_may_be_resumed_on_a_folder(harness: Harness) -> None:
    upload = announce(harness, resumable=False)
    assert "parts_url" not in upload or upload["parts_url"] is None
    url = upload["upload"]["url"]
    assert put(harness, url, CONTENT[:1], "bytes 0-0/768").status_code == 202
    assert put(harness, url, CONTENT[1:], "bytes 1-767/768").status_code == 204
    refused = harness.client.get(f"/v1/uploads/{upload['id']}/parts")
    assert (refused.status_code, refused.json["code"]) == (409, "upload_not_resumable")


@pytest.mark.parametrize(
    ("content", "content_range", "status", "code"),
    [
        (b"abc", "bytes 1-3/768", 409, "upload_offset_mismatch"),  # a gap
        (b"abc", "bytes 0-2/769", 422, "invalid_request"),  # another size
        (b"abc", "bytes 0-2/999999999999999999", 422, "invalid_request"),
        (b"abc", "bytes 0-2/9999999999999999999999", 422, "invalid_request"),
        (b"abc", "bytes 2-0/768", 422, "invalid_request"),
        (b"abc", "bytes 766-768/768", 422, "invalid_request"),
        (b"abc", "bytes 0-3/768", 422, "invalid_request"),  # a body of another length
        (b"abc", "bytes 0-1/768", 422, "invalid_request"),
        (b"abc", "bytes 0-2/*", 422, "invalid_request"),
        (b"abc", "bytes */768", 422, "invalid_request"),
        (b"abc", "bytes -3/768", 422, "invalid_request"),
        (b"abc", "bytes=0-2/768", 422, "invalid_request"),
        (b"abc", "items 0-2/768", 422, "invalid_request"),
        (b"abc", "bytes 0-2,3-4/768", 422, "invalid_request"),
        (b"abc", "bytes ０-２/768", 422, "invalid_request"),
        (b"", "bytes 0-0/768", 411, "length_required"),
    ],
)
def test_a_hostile_range_changes_nothing(
    harness: Harness, content: bytes, content_range: str, status: int, code: str
) -> None:
    upload = announce(harness)
    answer = harness.client.put(
        upload["upload"]["url"],
        data=content,
        headers={"Content-Range": content_range.encode("utf-8").decode("latin-1")},
    )
    assert (answer.status_code, answer.json["code"]) == (status, code)
    assert parts(harness, upload).json["received_bytes"] == 0


def test_an_overlap_is_refused_and_says_where_to_go_on(harness: Harness) -> None:
    upload = announce(harness)
    url = upload["upload"]["url"]
    put(harness, url, CONTENT[:500], "bytes 0-499/768")
    for start in (0, 499, 501):
        answer = put(harness, url, b"ab", f"bytes {start}-{start + 1}/768")
        assert (answer.status_code, answer.headers["Upload-Offset"], answer.json["offset"]) == (409, "500", 500)


def test_what_is_not_complete_is_neither_completed_nor_an_input(harness: Harness) -> None:
    upload = announce(harness)
    put(harness, upload["upload"]["url"], CONTENT[:500], "bytes 0-499/768")
    answer = complete(harness, upload)
    assert (answer.status_code, answer.json["code"]) == (409, "upload_incomplete")
    submitted = harness.client.post("/v1/jobs", json={"video": upload["id"]})
    assert (submitted.status_code, submitted.json["errors"][0]["field"]) == (422, "video")


def test_other_content_than_announced_has_to_be_sent_again(harness: Harness) -> None:
    upload = announce(harness, sha256="0" * 64)
    url = upload["upload"]["url"]
    put(harness, url, CONTENT[:500], "bytes 0-499/768")
    answer = put(harness, url, CONTENT[500:], "bytes 500-767/768")
    assert (answer.status_code, answer.json["code"]) == (422, "upload_mismatch")
    assert parts(harness, upload).json["received_bytes"] == 0


def test_after_its_time_an_upload_takes_no_more(harness: Harness) -> None:
    upload = announce(harness)
    harness.clock.advance(3500)
    assert put(harness, upload["upload"]["url"], CONTENT[:1], "bytes 0-0/768").status_code == 202
    harness.clock.advance(200)
    assert harness.client.get(upload["upload"]["url"]).status_code == 403, "the URL is valid for an hour"
    (part,) = parts(harness, upload).json["missing"]
    assert harness.client.put(part["url"], data=CONTENT[1:], headers=part["headers"]).status_code == 204
    harness.clock.advance(86_400)
    assert (parts(harness, upload).status_code, complete(harness, upload).status_code) == (410, 410)


def test_without_its_signature_nobody_learns_of_an_upload(harness: Harness) -> None:
    path = urlsplit(announce(harness)["upload"]["url"]).path
    assert [harness.client.open(path, method=method).status_code for method in ("GET", "HEAD")] == [403, 403]
    assert harness.client.get(f"{path}?expires=9999999999&signature=00&tenant=default").status_code == 403
    for call in ("parts", "complete"):
        method = "GET" if call == "parts" else "POST"
        unknown = f"/v1/uploads/upl_{0:032x}/{call}"
        assert harness.client.open(unknown, method=method).status_code == 404


def test_a_key_that_may_only_read_gets_no_url_to_write_to(harness: Harness) -> None:
    upload = announce(harness)
    need_keys(harness)
    headers = {"Authorization": f"Bearer {new_key(harness, READ)}"}
    (part,) = (harness.client.get(upload["parts_url"], headers=headers).json or {})["missing"]
    assert part == {"number": 1, "start": 0, "end": len(CONTENT)}
    assert harness.client.post(f"/v1/uploads/{upload['id']}/complete", headers=headers).status_code == 403


def test_the_page_of_parts_is_bounded(harness: Harness) -> None:
    upload = announce(harness)
    assert [parts(harness, upload, f"?limit={limit}").status_code for limit in (0, 1001, "x")] == [422, 422, 422]


def test_parts_of_a_bucket_are_bounded_like_its_other_calls(harness: Harness) -> None:
    class Writes:
        def __init__(self, name: str) -> None:
            self.name = name

        def stored_parts(self) -> str:
            return self.name

        def finish(self) -> str:
            return self.name

        def begin(self) -> str:
            raise StorageUnavailableError("away", "s3")

    class Store:
        range_writes = None

        def __init__(self, name: str) -> None:
            self.part_writes = Writes(name)

    class Gate:
        def __init__(self) -> None:
            self.calls: list[bool] = []

        def call(self, step: Any, *, bulk: bool = False) -> Any:
            self.calls.append(bulk)
            return step()

    gate: Any = Gate()
    store: Any = bounded_store(Store("quick"), Store("bulk"), gate)  # type: ignore[arg-type]
    assert store.range_writes is None
    assert (store.part_writes.stored_parts(), store.part_writes.finish()) == ("quick", "bulk")
    with pytest.raises(StorageUnavailableError):
        store.part_writes.begin()
    assert gate.calls == [False, True, False]
