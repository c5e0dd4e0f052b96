"""What the client raises; each class says when."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmaudio_client.models import Job


class ClientError(Exception):
    """Base of the client's errors."""


class UnavailableError(ClientError):
    """Raised when the server could not be reached, or said that it cannot serve, after all tries."""


class WrongServerError(ClientError):
    """Raised when the server's address is none, or what answers there is not the platform."""


class DownloadError(ClientError):
    """Raised when a downloaded file is not what the job says; nothing is kept."""


class WaitTimeoutError(ClientError):
    """Raised when a job had not ended in the time given. It goes on."""


class ApiError(ClientError):
    """Raised when the server refused a request; carries its problem document."""

    def __init__(self, status: int, code: str, detail: str, fields: dict[str, str] | None = None) -> None:
        lines = (f"{name}: {message}" for name, message in (fields or {}).items())
        super().__init__("\n".join(filter(None, [detail, *(line for line in lines if line not in detail)])))
        self.status, self.code, self.detail, self.fields = status, code, detail, fields or {}


class NotFoundError(ApiError):
    """Raised for a job, upload or file that is not there."""


class ConflictError(ApiError):
    """Raised when the job's state does not allow the call."""


class InvalidRequestError(ApiError):
    """Raised when fields of a request are not allowed; `fields` names them."""


class JobFailedError(ClientError):
    """Raised when a job that was waited for has failed."""

    def __init__(self, job: Job) -> None:
        super().__init__(job.error_message or "The job failed.")
        self.job = job


class JobCanceledError(ClientError):
    """Raised when a job that was waited for was canceled."""

    def __init__(self, job: Job) -> None:
        super().__init__(f"Job {job.id} was canceled.")
        self.job = job
