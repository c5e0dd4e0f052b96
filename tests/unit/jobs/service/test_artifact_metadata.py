"""What an artifact's object says about itself, and which objects are not believed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from jobs.db.tables import Job
from jobs.lifecycle import ArtifactKind, State
from jobs.service.artifact_metadata import ARTIFACT_FIELD, NotDescribedError, artifact_from_object, artifact_metadata
from jobs.service.attempts import Claim, NewArtifact
from jobs.storage.protocol import ObjectMetadata

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
CLAIM = Claim("job_1", 2, "w", "tenant ü&=%", "tiny_16k", {}, None, NOON, NOON, 0.0)
ARTIFACT = NewArtifact(
    "video-2.mp4",
    ArtifactKind.VIDEO,
    "mp4",
    "video/mp4",
    "jobs/job_1/2/video-2.mp4",
    5,
    "ab" * 32,
    7.999938,
    1,
    2**63 - 1,
)


def job(**fields: Any) -> Job:
    values = {
        "id": "job_1", "attempt": 2, "tenant": CLAIM.tenant, "state": State.SUCCEEDED, "finished_at": NOON,
        "request": {"deliver_to": "s3://theirs/a/b/"},
    }  # fmt: skip
    return Job(**{**values, **fields})


def stored(**changes: Any) -> ObjectMetadata:
    metadata = artifact_metadata(CLAIM, replace(ARTIFACT, size_bytes=0, sha256=""), artifact_ttl_s=60)
    found = ObjectMetadata(ARTIFACT.storage_key, 5, "etag", "ab" * 32, "video/mp4", NOON, metadata)
    return replace(found, **changes)


def test_the_row_is_that_of_the_transaction_that_ended_the_job() -> None:
    row = artifact_from_object(job(), stored())
    assert {name: getattr(row, name) for name in vars(ARTIFACT)} == {
        **vars(ARTIFACT),
        "delivered_to": "s3://theirs/a/b/job_1/video-2.mp4",
    }
    assert (row.job_id, row.expires_at, row.deleted_at) == ("job_1", NOON + timedelta(seconds=60), None)
    assert artifact_from_object(job(request={}), stored()).delivered_to is None


def test_the_metadata_is_short_ascii() -> None:
    metadata = artifact_metadata(CLAIM, ARTIFACT, artifact_ttl_s=3_155_760_000)
    assert all(text.isascii() and text.isprintable() for text in metadata.values())
    assert sum(len(name) + len(text) for name, text in metadata.items()) < 500


@pytest.mark.parametrize(
    "fields",
    [{"attempt": 1}, {"tenant": "other"}, {"state": State.FAILED}, {"id": "job_2"}, {"state": State.RUNNING}],
)
def test_an_object_of_another_attempt_job_or_tenant_is_not_believed(fields: dict[str, Any]) -> None:
    with pytest.raises(NotDescribedError):
        artifact_from_object(job(**fields), stored())


@pytest.mark.parametrize(
    "changes",
    [
        {"key": "jobs/job_1/2/audio.flac"},
        {"sha256": None},
        {"user_metadata": {}},
        {"user_metadata": {"mmaudio-job-id": "job_1"}},
    ],
)
def test_an_object_that_does_not_describe_itself_is_not_believed(changes: dict[str, Any]) -> None:
    with pytest.raises(NotDescribedError):
        artifact_from_object(job(), stored(**changes))


@pytest.mark.parametrize(
    "damage", [("kind=video", "kind=dance"), ("seed=", "seed=x"), ("ttl_s=60", "ttl_s=9e9"), ("format", "f")]
)
def test_damaged_metadata_is_not_believed(damage: tuple[str, str]) -> None:
    metadata = dict(stored().user_metadata)
    metadata[ARTIFACT_FIELD] = metadata[ARTIFACT_FIELD].replace(*damage)
    with pytest.raises(NotDescribedError, match="its metadata is damaged"):
        artifact_from_object(job(), stored(user_metadata=metadata))
