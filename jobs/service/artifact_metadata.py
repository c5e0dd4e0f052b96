"""What an artifact's object carries in its metadata, so that a lost row can be made again from the object alone.

Size, SHA-256 and content type are the store's own metadata of every object; the rest is one ASCII field of about
150 bytes (S3 allows 2 kB), with the values encoded as in a URL's query.
"""

from __future__ import annotations

from datetime import timedelta
from urllib.parse import parse_qsl, urlencode

from jobs.db.tables import Artifact, Job
from jobs.lifecycle import ArtifactKind, State
from jobs.s3_urls import DELIVERY_URL
from jobs.service.attempts import Claim, NewArtifact
from jobs.storage.protocol import ATTEMPT_FIELD, JOB_ID_FIELD, ObjectMetadata

ARTIFACT_FIELD = "mmaudio-artifact"


class NotDescribedError(ValueError):
    """Raised when an object's metadata does not say which artifact of the job it is."""


def artifact_metadata(claim: Claim, artifact: NewArtifact, *, artifact_ttl_s: int) -> dict[str, str]:
    """Return the metadata of an artifact's object.

    Args:
        artifact_ttl_s: seconds that the artifact is kept after the job's end.
    """
    fields = {
        "tenant": claim.tenant,
        "name": artifact.name,
        "kind": str(artifact.kind),
        "format": artifact.format,
        "duration_s": repr(artifact.duration_s),
        "take": artifact.take,
        "seed": artifact.seed,
        "ttl_s": artifact_ttl_s,
    }
    return {JOB_ID_FIELD: claim.job_id, ATTEMPT_FIELD: str(claim.attempt), ARTIFACT_FIELD: urlencode(fields)}


def artifact_from_object(job: Job, found: ObjectMetadata) -> Artifact:
    """Return the row of an artifact, as the transaction that ended the job as succeeded wrote it.

    Raises:
        NotDescribedError: the object is not of the job's successful attempt, or an older release made it.
    """
    metadata, fields = found.user_metadata, dict(parse_qsl(found.user_metadata.get(ARTIFACT_FIELD, "")))
    if not fields:
        raise NotDescribedError("its metadata does not describe an artifact; an older release made it")
    made_by = (metadata.get(JOB_ID_FIELD), metadata.get(ATTEMPT_FIELD), fields.get("tenant"))
    if job.state is not State.SUCCEEDED or made_by != (job.id, str(job.attempt), job.tenant):
        raise NotDescribedError(f"its metadata names {made_by}, not the successful attempt of its job")
    name = fields.get("name", "")
    if found.key != f"jobs/{job.id}/{job.attempt}/{name}" or found.sha256 is None:
        raise NotDescribedError("its metadata does not match its key, or has no SHA-256")
    assert job.finished_at is not None
    try:
        return Artifact(
            tenant=job.tenant,
            job_id=job.id,
            name=name,
            kind=ArtifactKind(fields["kind"]),
            format=fields["format"],
            content_type=found.content_type,
            storage_key=found.key,
            size_bytes=found.size_bytes,
            sha256=found.sha256,
            duration_s=float(fields["duration_s"]),
            take=int(fields["take"] if "take" in fields else fields["sample_index"]),  # its name in older releases
            seed=int(fields["seed"]),
            # Retention deletes again what a deleted job has left.
            expires_at=job.deleted_at or job.finished_at + timedelta(seconds=int(fields["ttl_s"])),
            deleted_at=None,
            delivered_to=_delivered_to(job, name) if fields["kind"] != ArtifactKind.PREVIEW else None,
        )
    except (KeyError, ValueError, OverflowError) as exc:
        raise NotDescribedError(f"its metadata is damaged: {exc}") from exc


def _delivered_to(job: Job, name: str) -> str | None:
    """Return where `jobs.storage.delivery` has put the copy: a job succeeds only when all its copies are there."""
    match = DELIVERY_URL.fullmatch(job.request.get("deliver_to") or "")
    return f"s3://{match['bucket']}/{match['prefix']}{job.id}/{name}" if match is not None else None
