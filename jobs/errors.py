"""The domain's errors, one class per cause, and whether a retry may help.

Two families. `DomainError`: a caller's request is refused; `api.errors` maps each class to a status. `JobError`: why an
attempt failed; stored with the job as a `Failure`. No code decides by the text of a message.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from jobs.lifecycle import Dependency


class DomainError(Exception):
    """Base of all refusals."""

    code: ClassVar[str] = "domain_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class FieldProblem:
    """A field of a request and what is wrong with it."""

    field: str
    message: str


class RequestInvalidError(DomainError):
    """Raised when fields of a request are not valid; names each field."""

    code = "invalid_request"

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" for p in problems))
        self.problems = problems

    @classmethod
    def of(cls, field: str, message: str) -> RequestInvalidError:
        """Return the error for one field."""
        return cls([FieldProblem(field, message)])


class JobNotFoundError(DomainError):
    """Raised when the tenant has no job of this id; another tenant's job gives the same answer."""

    code = "job_not_found"


class UploadNotFoundError(DomainError):
    """Raised when the tenant has no upload of this id."""

    code = "upload_not_found"


class TriggerNotFoundError(DomainError):
    """Raised when the tenant has no trigger of this id."""

    code = "trigger_not_found"


class TriggerInactiveError(DomainError):
    """Raised when a trigger that is disabled or paused is asked to make jobs."""

    code = "trigger_inactive"


class BucketNotListedError(DomainError):
    """Raised when this server cannot list the bucket of a trigger: it has no right to, or the bucket is gone."""

    code = "bucket_not_listed"


class WorkerNotFoundError(DomainError):
    """Raised when no worker has this id."""

    code = "worker_not_found"


class ArtifactNotFoundError(DomainError):
    """Raised when a job has no artifact of this name."""

    code = "artifact_not_found"


class GoneReason(StrEnum):
    """Why stored content no longer exists."""

    RETENTION = "retention_time_passed"
    MISSING = "object_missing"
    """The object store no longer has the object, though its retention time had not passed."""
    DELETED = "deleted_by_owner"


class ContentGoneError(DomainError):
    """Base of refusals of content that no longer exists; says why and since when.

    Attributes:
        expired_at: when its retention time passed; None: it had not.
        deleted_at: when its deletion, or that it is missing, was recorded; None: not yet.
    """

    code = "content_gone"

    def __init__(
        self,
        message: str,
        reason: GoneReason,
        *,
        expired_at: datetime | None = None,
        deleted_at: datetime | None = None,
    ) -> None:
        super().__init__(message)
        self.reason, self.expired_at, self.deleted_at = reason, expired_at, deleted_at


class ArtifactExpiredError(ContentGoneError):
    """Raised when an artifact's retention time has passed, or its object was found missing."""

    code = "artifact_expired"


class ArtifactMissingError(ContentGoneError):
    """Raised when the object store has no object of an artifact that should exist."""

    code = "object_gone"


class JobDeletedError(ContentGoneError):
    """Raised for a job that its owner has deleted."""

    code = "job_deleted"


class UploadDeletedError(ContentGoneError):
    """Raised for an upload that its owner has deleted."""

    code = "upload_deleted"


class UploadInUseError(DomainError):
    """Raised when deleting an upload that a job needs which has not ended."""

    code = "upload_in_use"


class BatchNotFoundError(DomainError):
    """Raised when the tenant has no batch of this id."""

    code = "batch_not_found"


class BatchEndedError(DomainError):
    """Raised when canceling a batch whose jobs have all ended."""

    code = "batch_ended"


class PresetNotFoundError(DomainError):
    """Raised when the tenant has no preset of this name, or no such version of it."""

    code = "preset_not_found"


class PresetLimitError(DomainError):
    """Raised when a tenant has as many presets, or versions of one, as allowed."""

    code = "preset_limit"


class LinkRefusedError(DomainError):
    """Raised for a signed link that is forged or has expired."""

    code = "link_refused"


class UploadMismatchError(DomainError):
    """Raised when the uploaded bytes are not those that were announced."""

    code = "upload_mismatch"


class UploadCompleteError(DomainError):
    """Raised when content is sent for an upload that already has it."""

    code = "upload_complete"


class UploadIncompleteError(DomainError):
    """Raised when a resumable upload is to be completed while parts are missing."""

    code = "upload_incomplete"


class UploadOffsetError(DomainError):
    """Raised for bytes of an upload that do not begin where those that are there end.

    Attributes:
        offset: where they end.
    """

    code = "upload_offset_mismatch"

    def __init__(self, message: str, offset: int) -> None:
        super().__init__(message)
        self.offset = offset


class UploadBusyError(DomainError):
    """Raised when two calls send bytes of one upload at once; the later one is refused."""

    code = "upload_busy"


class UploadNotResumableError(DomainError):
    """Raised when an upload is asked for parts, or sent in parts, that was not announced so."""

    code = "upload_not_resumable"


class UploadExpiredError(ContentGoneError):
    """Raised when content is sent for an upload that has expired, or whose content was found missing."""

    code = "upload_expired"


class EventsRefusedError(DomainError):
    """Raised for bucket events without the shared token, or when no token is set."""

    code = "events_refused"


class EventUnreadableError(DomainError):
    """Raised for a body that is not a bucket event of a known form."""

    code = "event_unreadable"


class JobEndedError(DomainError):
    """Raised when canceling a job that has already ended."""

    code = "job_ended"

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobNotEndedError(DomainError):
    """Raised when retrying or deleting a job that has not ended."""

    code = "job_not_ended"

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class KeyRefusedError(DomainError):
    """Raised for a request without a key that is valid now."""

    code = "unauthorized"


class ScopeMissingError(DomainError):
    """Raised for a request whose key does not allow it."""

    code = "insufficient_scope"


class ApiKeyNotFoundError(DomainError):
    """Raised when the tenant has no API key of this id."""

    code = "api_key_not_found"


class ApiKeyInactiveError(DomainError):
    """Raised when a key is rotated that is revoked or has expired."""

    code = "api_key_inactive"


class IdempotencyMismatchError(DomainError):
    """Raised when an idempotency key is reused with another body."""

    code = "idempotency_key_reused"


class QueueFullError(DomainError):
    """Raised when a tenant has as many queued jobs as allowed, or may not queue any for another reason."""

    code = "queue_full"

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class ResultStorageFullError(QueueFullError):
    """Raised for a submit when the stored results of the tenant have as many bytes as allowed."""

    code = "result_storage_full"


class LimitReachedError(DomainError):
    """Base of refusals because a tenant has as much of something as an operator allows.

    Attributes:
        limit: how much that is.
        retry_s: seconds after which another try may succeed.
    """

    code = "limit_reached"

    def __init__(self, message: str, limit: int, *, retry_s: int = 60) -> None:
        super().__init__(message)
        self.limit, self.retry_s = limit, retry_s


class UploadStorageFullError(LimitReachedError):
    """Raised when the uploads of a tenant would have more bytes together than allowed."""

    code = "upload_storage_full"


class UploadNeverFitsError(LimitReachedError):
    """Raised for an upload that is larger than all uploads of its tenant may be together."""

    code = "too_large"


class TriggerLimitError(LimitReachedError):
    """Raised when a tenant has as many triggers as allowed."""

    code = "trigger_limit_reached"


class TooManyRequestsError(LimitReachedError):
    """Raised when a tenant, or a key, has sent as many requests in this minute as allowed."""

    code = "too_many_requests"


class TooManyWaitingError(LimitReachedError):
    """Raised when as many requests of a tenant wait or stream as allowed."""

    code = "too_many_waiting"


class DiskReserveError(DomainError, OSError):
    """Raised when a disk has no more free space than its reserve; an operator has to free some, or retention does.

    An `OSError` as of a full disk, which it is for whoever wants to write.
    """

    code = "disk_full"

    def __init__(self, message: str, folder: str) -> None:
        super().__init__(message)
        self.errno, self.strerror, self.filename = errno.ENOSPC, message, folder

    def __str__(self) -> str:
        return self.message


class LeaseLostError(Exception):
    """Raised when a worker writes for an attempt whose lease it lost. The write changed nothing; discard the work."""


class InvalidCursorError(DomainError):
    """Raised when a list cursor was not issued by this API."""

    code = "invalid_cursor"


@dataclass(frozen=True)
class Failure:
    """Why an attempt failed: a stable code, a message, the stage, and whether a retry may help."""

    code: str
    message: str
    stage: str | None = None
    retryable: bool = False

    def as_json(self) -> dict[str, Any]:
        """Return the failure as it is stored and shown."""
        return {"code": self.code, "message": self.message, "stage": self.stage, "retryable": self.retryable}


class JobError(Exception):
    """Base of what a worker raises to fail an attempt; the class sets the code and whether a retry may help."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def failure(self, stage: str | None) -> Failure:
        """Return the failure to store, raised in `stage`."""
        return Failure(self.code, str(self), stage, self.retryable)


class InputMissingError(JobError):
    """Raised when the input object does not exist or may not be read."""

    code = "input_missing"


class InputChangedError(JobError):
    """Raised when the input object was overwritten before it was fetched; the new version has a job of its own."""

    code = "input_changed"


class InputDamagedError(JobError):
    """Raised when the SHA-256 of the input is not the announced one."""

    code = "input_damaged"


class InputTooLargeError(JobError):
    """Raised when the input has more bytes than the server allows."""

    code = "input_too_large"


class InputForbiddenError(JobError):
    """Raised when the caller's bucket has refused the input to this server for a day."""

    code = "input_forbidden"


class InputRefusedError(JobError):
    """Raised when this server does not open the input's URL, or one that it redirects to, or cannot use its answer."""

    code = "input_refused"


class InputUnreachableError(JobError):
    """Raised when the host of the input's URL does not answer, is in trouble or asks to come again later."""

    code = "input_unreachable"
    retryable = True


class InfrastructureError(JobError):
    """Base of trouble of the platform itself. The job goes back to the queue and the attempt does not count.

    Attributes:
        dependency: what is in trouble; its worker takes no jobs until a check of it succeeds. None: something that
            only jobs of one caller need, such as a bucket of theirs.
    """

    retryable = True
    dependency: ClassVar[Dependency | None] = None


class StorageFailedError(InfrastructureError):
    """Raised when the object store does not answer."""

    code = "storage_unavailable"
    dependency = Dependency.STORE


class StorageRefusedError(InfrastructureError):
    """Raised when the object store refuses this server: its credentials, its clock, its rights or the bucket's name."""

    code = "storage_refused"
    dependency = Dependency.STORE


class BucketFailedError(InfrastructureError):
    """Raised when a caller's bucket does not answer, or refuses this server."""

    code = "bucket_unavailable"


class DatabaseFailedError(InfrastructureError):
    """Raised when the database does not answer."""

    code = "database_unavailable"
    dependency = Dependency.DATABASE


class DeviceFailedError(InfrastructureError):
    """Raised when the device fails its self-test after a job failed on it."""

    code = "device_failed"
    dependency = Dependency.DEVICE


class VariantFailedError(InfrastructureError):
    """Raised when a worker cannot load a variant."""

    code = "weights_unavailable"
    dependency = Dependency.WEIGHTS

    def __init__(self, message: str, variant: str) -> None:
        super().__init__(message)
        self.variant = variant


class OutputRefusedError(JobError):
    """Raised when the caller's bucket does not exist or does not allow this server to write."""

    code = "output_refused"


class OutputTakenError(JobError):
    """Raised when an object of another origin already has the name of a delivery."""

    code = "output_taken"


class DiskFullError(InfrastructureError):
    """Raised when a disk that the worker writes to is full or cannot be written to."""

    code = "disk_full"
    dependency = Dependency.DISK


class RunTimeoutError(JobError):
    """Raised when an attempt runs longer than the request's `run_timeout_s`."""

    code = "run_timeout"


class DeviceOutOfMemoryError(JobError):
    """Raised when a request alone needs more memory than the device has."""

    code = "out_of_memory"


class InternalError(JobError):
    """Raised at the task boundary for any unexpected error; only the log has the details."""

    code = "internal_error"
    retryable = True
