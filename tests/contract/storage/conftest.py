"""The store under test: a folder, and a bucket behind real HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from jobs.storage.local import LocalStore
from jobs.storage.protocol import ObjectStore
from jobs.storage.s3.store import S3Store


@pytest.fixture(params=["local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ObjectStore]:
    if request.param == "local":
        yield LocalStore(tmp_path / "store")
        return
    endpoint = request.getfixturevalue("s3_endpoint")
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=endpoint).create_bucket(Bucket=bucket)
    yield S3Store(f"s3://{bucket}/some/prefix", endpoint_url=endpoint, addressing_style="path")


@pytest.fixture
def s3_store(s3_endpoint: str) -> S3Store:
    bucket = f"bucket-{uuid.uuid4().hex}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    return S3Store(f"s3://{bucket}", endpoint_url=s3_endpoint, addressing_style="path")
