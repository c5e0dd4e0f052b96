"""Every way in which the domain says no, as classes: what happened, and whether trying again may help.

Two families. `DomainError`: a caller asked for something that cannot be had; `api.errors` maps each to a status.
`Failure`: why an attempt at a job ended badly; stored with the job. Nothing decides by the text of a message.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar


class DomainError(Exception):
    """Base of all refusals to a caller."""

    code: ClassVar[str] = "domain_error"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class FieldProblem:
    """One field of a request and what is wrong with it."""

    field: str
    message: str


class RequestInvalidError(DomainError):
    """Raised when fields of a request cannot be served; names each field."""

    code = "invalid_request"

    def __init__(self, problems: list[FieldProblem]) -> None:
        super().__init__("; ".join(f"{p.field}: {p.message}" for p in problems))
        self.problems = problems

    @classmethod
    def of(cls, field: str, message: str) -> RequestInvalidError:
        return cls([FieldProblem(field, message)])


class JobNotFoundError(DomainError):
    """Raised for an id that this tenant has no job of (another tenant's job is not told apart from none)."""

    code = "job_not_found"


class UploadNotFoundError(DomainError):
    """Raised for an id that this tenant has no upload of."""

    code = "upload_not_found"


class TriggerNotFoundError(DomainError):
    """Raised for an id that this tenant has no trigger of."""

    code = "trigger_not_found"


class WorkerNotFoundError(DomainError):
    """Raised for an id that no worker has."""

    code = "worker_not_found"


class ArtifactNotFoundError(DomainError):
    """Raised when a job has no artifact of that name."""

    code = "artifact_not_found"


class ArtifactExpiredError(DomainError):
    """Raised when an artifact was there and its retention time has passed."""

    code = "artifact_expired"


class JobEndedError(DomainError):
    """Raised when a job has already ended and so cannot be canceled."""

    code = "job_ended"

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class JobNotEndedError(DomainError):
    """Raised when only an ended job can be retried."""

    code = "job_not_ended"

    def __init__(self, message: str, job_id: str) -> None:
        super().__init__(message)
        self.job_id = job_id


class IdempotencyMismatchError(DomainError):
    """Raised when an idempotency key comes again with another body."""

    code = "idempotency_key_reused"


class QueueFullError(DomainError):
    """Raised when a tenant already has as many queued jobs as it may have."""

    code = "queue_full"

    def __init__(self, message: str, limit: int) -> None:
        super().__init__(message)
        self.limit = limit


class LeaseLostError(Exception):
    """Raised when a worker writes for an attempt it no longer holds. The write changed nothing; drop the work."""


class InvalidCursorError(DomainError):
    """Raised when a list cursor was not made by this API."""

    code = "invalid_cursor"


@dataclass(frozen=True)
class Failure:
    """Why an attempt ended badly: a stable code, a sentence for the person, the stage, and whether a retry may help."""

    code: str
    message: str
    stage: str | None = None
    retryable: bool = False

    def as_json(self) -> dict[str, Any]:
        return {"code": self.code, "message": self.message, "stage": self.stage, "retryable": self.retryable}


class JobError(Exception):
    """Base of what a worker raises to end an attempt; the class says the code and whether a retry may help."""

    code: ClassVar[str] = "internal_error"
    retryable: ClassVar[bool] = False

    def failure(self, stage: str | None) -> Failure:
        return Failure(self.code, str(self), stage, self.retryable)


class InputMissingError(JobError):
    """Raised when the object a job names is gone or may not be read."""

    code = "input_missing"


class InputChangedError(JobError):
    """Raised when the object that made the job was overwritten before it was fetched; the new one has its own job."""

    code = "input_changed"


class InputDamagedError(JobError):
    """Raised when the input's bytes do not hash to what was announced."""

    code = "input_damaged"


class InputTooLargeError(JobError):
    """Raised when the input has more bytes than the server allows."""

    code = "input_too_large"


class StorageFailedError(JobError):
    """Raised when the object store did not answer; a later attempt may."""

    code = "storage_unavailable"
    retryable = True


class OutputRefusedError(JobError):
    """Raised when the caller's bucket does not let this server write, or is not there."""

    code = "output_refused"


class OutputTakenError(JobError):
    """Raised when somebody else's object has the name that a delivery needs."""

    code = "output_taken"


class DiskFullError(JobError):
    """Raised when the worker's own disk has no room; another worker, or a later attempt, may have some."""

    code = "disk_full"
    retryable = True


class RunTimeoutError(JobError):
    """Raised when an attempt ran longer than the request's `run_timeout_s`."""

    code = "run_timeout"


class DeviceOutOfMemoryError(JobError):
    """Raised when one request alone does not fit into the device's memory."""

    code = "out_of_memory"


class InternalError(JobError):
    """Raised at the task boundary for anything unforeseen; the log has the details, the person gets a sentence."""

    code = "internal_error"
    retryable = True
