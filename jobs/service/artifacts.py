"""The artifacts of jobs: list, get, mark as missing, restore."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import unquote, urlsplit

from sqlalchemy import select

from jobs.db.database import Transaction
from jobs.db.tables import Artifact, Job, Upload
from jobs.errors import ArtifactExpiredError, ArtifactMissingError, ArtifactNotFoundError, GoneReason
from jobs.file_names import result_name, safe_stem
from jobs.lifecycle import ArtifactKind
from jobs.request import is_web_url
from jobs.s3_urls import OBJECT_URL
from jobs.service.expiry import Gone, gone_since


def artifacts_by_job(tx: Transaction, job_ids: list[str]) -> dict[str, list[Artifact]]:
    """Return the artifacts of several jobs without their previews, by job id, in order of take and name."""
    found: dict[str, list[Artifact]] = {job_id: [] for job_id in job_ids}
    query = select(Artifact).where(Artifact.job_id.in_(job_ids), Artifact.kind != ArtifactKind.PREVIEW)
    for artifact in tx.session.scalars(query.order_by(Artifact.take, Artifact.name)):
        found[artifact.job_id].append(artifact)
    return found


def previews_of_job(tx: Transaction, job_id: str) -> list[Artifact]:
    """Return the previews of a job, in order of take."""
    query = select(Artifact).where(Artifact.job_id == job_id, Artifact.kind == ArtifactKind.PREVIEW)
    return list(tx.session.scalars(query.order_by(Artifact.take)))


def downloadable_artifacts(tx: Transaction, job: Job) -> list[Artifact]:
    """Return all artifacts of a job.

    Raises:
        ArtifactNotFoundError: it has none.
        ArtifactExpiredError: the retention time of one has passed, or its object was found missing.
    """
    artifacts = artifacts_by_job(tx, [job.id])[job.id]
    if not artifacts:
        raise ArtifactNotFoundError(f"Job {job.id} is {job.state} and has no files.")
    for artifact in artifacts:
        get_artifact(tx, job.id, artifact.name)
    return artifacts


def get_artifact(tx: Transaction, job_id: str, name: str) -> Artifact:
    """Return an artifact that has not expired.

    Raises:
        ArtifactNotFoundError: the job has none of this name.
        ArtifactExpiredError: its retention time has passed, or its object was found missing.
    """
    artifact = tx.session.get(Artifact, (job_id, name))
    if artifact is None:
        raise ArtifactNotFoundError(f"Job {job_id} has no artifact {name!r}.")
    gone = _gone(artifact, tx.now)
    if gone is not None:
        raise ArtifactExpiredError(
            f"Artifact {name!r} of job {job_id} {gone.clause}; retry the job to make it again.",
            gone.reason,
            expired_at=gone.expired_at,
            deleted_at=gone.deleted_at,
        )
    return artifact


def download_name(tx: Transaction, job: Job, artifact: Artifact) -> str:
    """Return the name under which a browser saves an artifact: after the job's source, if that has a name."""
    tx.require_own(job.tenant, artifact.tenant)
    source = str(job.request.get("video") or job.request.get("image") or "")
    if match := OBJECT_URL.fullmatch(source):
        return result_name(safe_stem(match["key"]), artifact.name)
    if is_web_url(source):
        return result_name(safe_stem(unquote(urlsplit(source).path)), artifact.name)
    upload = tx.session.get(Upload, source) if source else None
    # Of another tenant, where the platform asks; without a name, if it was deleted.
    if upload is None or upload.tenant != job.tenant or not upload.filename:
        return artifact.name
    return result_name(safe_stem(upload.filename), artifact.name)


def missing_artifact(artifact: Artifact) -> ArtifactMissingError:
    """Return the error for an artifact whose object the store does not have.

    Nothing is recorded: a store that is set up wrongly for a while must not cost the row. `mmaudio doctor` records it.
    """
    gone = Gone(GoneReason.MISSING)
    return ArtifactMissingError(
        f"Artifact {artifact.name!r} of job {artifact.job_id} {gone.clause}, though it should be kept; retry the job "
        "to make it again, or ask the operator to run `mmaudio doctor`.",
        gone.reason,
    )


def artifact_expired(artifact: Artifact, now: datetime) -> bool:
    """Return whether an artifact's retention time has passed, or its object no longer exists."""
    return _gone(artifact, now) is not None


def _gone(artifact: Artifact, now: datetime) -> Gone | None:
    return gone_since(expires_at=artifact.expires_at, deleted_at=artifact.deleted_at, now=now)


def mark_artifact_missing(tx: Transaction, job_id: str, name: str) -> None:
    """Mark an artifact whose stored object no longer exists, so the API answers 410."""
    artifact = tx.session.get_one(Artifact, (job_id, name))
    if artifact.deleted_at is None:
        artifact.deleted_at = tx.now


def unmark_artifact_missing(tx: Transaction, job_id: str, name: str) -> None:
    """Remove the mark of an artifact whose stored object exists; retention deletes it once it has expired."""
    tx.session.get_one(Artifact, (job_id, name)).deleted_at = None


def restore_artifact(tx: Transaction, artifact: Artifact) -> bool:
    """Insert the row of an artifact again that was lost; return False when there is one."""
    tx.require_own(artifact.tenant)
    if tx.session.get(Artifact, (artifact.job_id, artifact.name)) is not None:
        return False
    tx.session.add(artifact)
    return True
