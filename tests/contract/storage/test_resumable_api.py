"""A resumable upload to a bucket, from the announcement to the job, with the API's own limits for the store."""

from __future__ import annotations

import hashlib
import uuid
from pathlib import Path

import boto3
import httpx
from flask.testing import FlaskClient

from api.app import create_app
from jobs.db.database import Database
from jobs.settings import MIB, Settings
from tests.databases import migrated_sqlite
from tests.unit.api.conftest import FakeBroker

CONTENT = b"a" * (5 * MIB) + b"the end"


def client_of(endpoint: str, folder: Path) -> FlaskClient:
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    settings = Settings(
        data_dir=folder,
        storage_url=f"s3://{bucket}/platform",
        s3_endpoint_url=endpoint,
        s3_addressing_style="path",
        variants=["tiny_16k"],
        upload_part_bytes=5 * MIB,
    )
    db = Database(migrated_sqlite(folder / "mmaudio.db"))
    return create_app(settings, db=db, broker=FakeBroker()).test_client()


def test_parts_go_directly_to_the_bucket(s3_endpoint: str, tmp_path: Path) -> None:
    client = client_of(s3_endpoint, tmp_path)
    announced = client.post(
        "/v1/uploads",
        json={
            "filename": "a.mp4",
            "size_bytes": len(CONTENT),
            "sha256": hashlib.sha256(CONTENT).hexdigest(),
            "resumable": True,
        },
    ).json
    assert announced is not None
    listed = client.get(announced["parts_url"]).json or {}
    assert (listed["in_order"], listed["part_count"], listed["missing_count"]) == (False, 2, 2)
    for part in reversed(listed["missing"]):
        assert (client.post(f"/v1/uploads/{announced['id']}/complete").json or {})["code"] == "upload_incomplete"
        sent = httpx.put(part["url"], content=CONTENT[part["start"] : part["end"]], headers=part["headers"])
        assert sent.status_code == 200
    listed = client.get(announced["parts_url"]).json or {}
    assert (listed["received"], listed["missing"], listed["received_bytes"]) == ([1, 2], [], len(CONTENT))
    while (done := client.post(f"/v1/uploads/{announced['id']}/complete")).status_code == 503:
        assert (done.json or {})["code"] == "upload_check_pending", "a busy machine may take longer than a call waits"
    assert (done.status_code, (done.json or {})["state"]) == (200, "ready")
    assert client.post("/v1/jobs", json={"video": announced["id"]}).status_code == 202


def test_a_bucket_takes_no_ranges_through_the_api(s3_endpoint: str, tmp_path: Path) -> None:
    client = client_of(s3_endpoint, tmp_path)
    announced = client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 5}).json or {}
    assert announced["upload"]["method"] == "POST"
    refused = client.get(f"/v1/uploads/{announced['id']}/parts")
    assert (refused.status_code, (refused.json or {})["code"]) == (409, "upload_not_resumable")
