"""The Python client of the platform, and the `mmaudio` command.

Depends on httpx, httpx-sse, click and tqdm, and on no other package of this project (docs/adr/0015).
"""

from mmaudio_client.bulk_retry import BulkRetry, RetriedJob, SkippedJob
from mmaudio_client.client import Client
from mmaudio_client.errors import (
    AmbiguousJobIdError,
    ApiError,
    ClientClosedError,
    ClientError,
    ConflictError,
    DownloadError,
    InvalidAddressError,
    InvalidInputError,
    InvalidJobIdError,
    InvalidKeyError,
    InvalidRequestError,
    JobCanceledError,
    JobFailedError,
    NotFoundError,
    UnavailableError,
    UnreachableError,
    WaitTimeoutError,
    WrongServerError,
)
from mmaudio_client.models import Artifact, Attempt, Job, JobError, JobRequest, JobWarning, Page
from mmaudio_client.submit_fields import SubmitFields
from mmaudio_client.version import __version__

__all__ = [
    "AmbiguousJobIdError",
    "ApiError",
    "Artifact",
    "Attempt",
    "BulkRetry",
    "Client",
    "ClientClosedError",
    "ClientError",
    "ConflictError",
    "DownloadError",
    "InvalidAddressError",
    "InvalidInputError",
    "InvalidJobIdError",
    "InvalidKeyError",
    "InvalidRequestError",
    "Job",
    "JobCanceledError",
    "JobError",
    "JobFailedError",
    "JobRequest",
    "JobWarning",
    "NotFoundError",
    "Page",
    "RetriedJob",
    "SkippedJob",
    "SubmitFields",
    "UnavailableError",
    "UnreachableError",
    "WaitTimeoutError",
    "WrongServerError",
    "__version__",
]
