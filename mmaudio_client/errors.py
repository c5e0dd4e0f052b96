"""Exceptions of the client; each class says when it is raised."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmaudio_client.models import Job

_PYDANTIC = re.compile(r"^Input should\b")


class ClientError(Exception):
    """Base of the client's exceptions. `code` names the problem for programs."""

    code = "client_error"


class UnavailableError(ClientError):
    """Raised when the server gave no answer, or answered that it cannot serve, after all tries."""

    code = "server_unavailable"


class UnreachableError(UnavailableError):
    """Raised when no connection to the server could be made."""

    code = "server_unreachable"


class UploadInterruptedError(UnavailableError):
    """Raised when the upload of a large file broke off for longer than the patience.

    What has arrived stays for a while: `Client.upload(..., resume=error.upload_id)` sends the rest.
    """

    def __init__(self, message: str, upload_id: str) -> None:
        super().__init__(message)
        self.upload_id = upload_id


class WrongServerError(ClientError):
    """Raised when the answer is not one of an mmaudio server."""

    code = "not_an_mmaudio_server"


class InvalidAddressError(ClientError, ValueError):
    """Raised when the server's address, or that of a proxy in the environment, cannot be used."""

    code = "invalid_address"


class InvalidKeyError(ClientError, ValueError):
    """Raised when the API key has characters that no key has. The message does not show the key."""

    code = "invalid_api_key"


class ClientClosedError(ClientError, RuntimeError):
    """Raised when a client is used after it was closed."""

    code = "client_closed"


class InvalidInputError(ClientError, ValueError):
    """Raised before anything is sent when a video or image is missing, empty or not readable as a file, or when a text
    of the request is not valid Unicode."""

    code = "invalid_input"


class InvalidJobIdError(ClientError, ValueError):
    """Raised when a text can be neither a job id nor the beginning of one."""

    code = "invalid_job_id"


class AmbiguousJobIdError(ClientError):
    """Raised when several jobs begin with the given prefix; `candidates` holds their ids."""

    code = "ambiguous_job_id"

    def __init__(self, message: str, candidates: tuple[str, ...]) -> None:
        super().__init__(message)
        self.candidates = candidates


class InvalidWebhookError(ClientError):
    """Raised when a request that looks like a webhook was not signed by the server, or is too old."""

    code = "invalid_webhook"


class DownloadError(ClientError):
    """Raised when a result has expired or did not arrive intact; no partial file is kept."""

    code = "download_failed"


class WaitTimeoutError(ClientError):
    """Raised when a job has not ended within the given time. The job continues."""

    code = "wait_timeout"


class ApiError(ClientError):
    """Raised when the server refused a request; carries its problem document.

    Args:
        status: HTTP status.
        code: the server's error code, or "" where the answer has none.
        detail: one sentence.
        fields: what is wrong, by request field.
    """

    def __init__(self, status: int, code: str, detail: str, fields: dict[str, str] | None = None) -> None:
        lines = [f"{name}: {_PYDANTIC.sub('must', message)}" for name, message in (fields or {}).items()]
        if lines and detail.startswith("Not allowed: "):  # it only names the fields
            sentences = lines
        else:
            sentences = [detail, *(line for line in lines if line not in detail)]
        super().__init__("\n".join(filter(None, sentences)))
        self.status, self.code, self.detail, self.fields = status, code, detail, fields or {}


class NotFoundError(ApiError):
    """Raised when there is no such job, upload, trigger or file."""


class GoneError(NotFoundError):
    """Raised when there was such a job or file, and it was deleted or has expired."""


class AuthenticationError(ApiError):
    """Raised when the server needs an API key and got none, or got one that is wrong, expired or revoked."""


class RateLimitError(ApiError):
    """Raised when the server has too much to do for this key, also after all tries (HTTP 429)."""


class ConflictError(ApiError):
    """Raised when the job's state does not allow the call."""


class InvalidRequestError(ApiError):
    """Raised when request fields are not allowed, by the server or before anything is sent; `fields` names them."""


class JobFailedError(ClientError):
    """Raised when a job that was waited for has failed."""

    code = "job_failed"

    def __init__(self, job: Job) -> None:
        super().__init__(job.error_message or "The job failed.")
        self.job = job
        if job.error is not None:
            self.code = job.error.code


class JobCanceledError(ClientError):
    """Raised when a job that was waited for was canceled."""

    code = "job_canceled"

    def __init__(self, job: Job) -> None:
        super().__init__(f"Job {job.id} was canceled.")
        self.job = job
