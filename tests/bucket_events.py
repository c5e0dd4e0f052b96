"""Events of every form, made from the samples in `tests/data/events` for an object of one's own."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

SAMPLES = Path(__file__).parent / "data" / "events"
_ceph_stamps = itertools.count(0xF7E6D75D)


def sample(name: str) -> Any:
    return json.loads((SAMPLES / f"{name}.json").read_text())


def aws(bucket: str, key: str, *, etag: str, version_id: str | None = None, sequencer: str = "0055") -> Any:
    document = copy.deepcopy(sample("aws"))
    # S3 leaves slashes as they are and writes a space as `+`.
    _fill(document["Records"][0], bucket, quote_plus(key, safe="/"), etag, version_id, sequencer)
    return document


def sns(bucket: str, key: str, **version: Any) -> Any:
    return {**sample("sns"), "Message": json.dumps(aws(bucket, key, **version))}


def eventbridge(bucket: str, key: str, *, etag: str, version_id: str | None = None, sequencer: str = "0055") -> Any:
    document = copy.deepcopy(sample("eventbridge"))
    document["detail"]["bucket"]["name"] = bucket
    told = {"key": key, "size": 1024, "etag": etag, "sequencer": sequencer}
    document["detail"]["object"] = told if version_id is None else {**told, "version-id": version_id}
    return document


def minio(bucket: str, key: str, *, etag: str, version_id: str | None = None, sequencer: str = "17A") -> Any:
    document = copy.deepcopy(sample("minio"))
    document["Key"] = f"{bucket}/{key}"
    _fill(document["Records"][0], bucket, quote_plus(key, safe=""), etag, version_id, sequencer)
    return document


def minio_access(bucket: str, key: str, *, etag: str, version_id: str | None = None, sequencer: str = "17A") -> Any:
    document = copy.deepcopy(sample("minio_access"))
    _fill(document[0]["Event"][0], bucket, quote_plus(key, safe=""), etag, version_id, sequencer)
    return document


def ceph(bucket: str, key: str, *, etag: str, version_id: str | None = None, sequencer: str = "") -> Any:
    """Ceph stamps each copy anew, whatever the write."""
    document = copy.deepcopy(sample("ceph"))
    _fill(document["Records"][0], bucket, key, etag, version_id or "", f"{next(_ceph_stamps):X}")
    return document


def ceph_encoded(bucket: str, key: str, **version: Any) -> Any:
    """As a gateway that encodes its keys would send it."""
    document = ceph(bucket, key, **version)
    document["Records"][0]["s3"]["object"]["key"] = quote(key)
    document["Records"][0]["eventName"] = "s3:ObjectCreated:Put"
    return document


FORMS: dict[str, Callable[..., Any]] = {
    "aws": aws,
    "sns": sns,
    "eventbridge": eventbridge,
    "minio": minio,
    "minio_access": minio_access,
    "ceph": ceph,
    "ceph_encoded": ceph_encoded,
}


def _fill(record: Any, bucket: str, key: str, etag: str, version_id: str | None, sequencer: str) -> None:
    record["s3"]["bucket"]["name"] = bucket
    told = record["s3"]["object"]
    told |= {"key": key, "eTag": etag, "versionId": version_id, "sequencer": sequencer}
    if version_id is None:
        del told["versionId"]
