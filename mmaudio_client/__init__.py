"""The Python client of the platform, and the `mmaudio` command.

Depends on httpx, httpx-sse, click and tqdm, and on no other package of this project (docs/adr/0015).
"""

from mmaudio_client.async_client import AsyncClient
from mmaudio_client.batches import Batch
from mmaudio_client.bulk_retry import BulkRetry, RetriedJob, SkippedJob
from mmaudio_client.calls.submission import Generated
from mmaudio_client.client import Client
from mmaudio_client.errors import (
    AmbiguousJobIdError,
    ApiError,
    AuthenticationError,
    ClientClosedError,
    ClientError,
    ConflictError,
    DownloadError,
    GoneError,
    InvalidAddressError,
    InvalidInputError,
    InvalidJobIdError,
    InvalidKeyError,
    InvalidRequestError,
    InvalidWebhookError,
    JobCanceledError,
    JobFailedError,
    NotFoundError,
    RateLimitError,
    UnavailableError,
    UnreachableError,
    UploadInterruptedError,
    WaitTimeoutError,
    WrongServerError,
)
from mmaudio_client.models import Artifact, Attempt, Event, Job, JobError, JobRequest, JobWarning, Page, Preview
from mmaudio_client.presets import Preset
from mmaudio_client.submit_fields import SubmitFields
from mmaudio_client.version import __version__
from mmaudio_client.webhook_signatures import verify_webhook

__all__ = [
    "AmbiguousJobIdError",
    "ApiError",
    "Artifact",
    "AsyncClient",
    "Attempt",
    "AuthenticationError",
    "Batch",
    "BulkRetry",
    "Client",
    "ClientClosedError",
    "ClientError",
    "ConflictError",
    "DownloadError",
    "Event",
    "Generated",
    "GoneError",
    "InvalidAddressError",
    "InvalidInputError",
    "InvalidJobIdError",
    "InvalidKeyError",
    "InvalidRequestError",
    "InvalidWebhookError",
    "Job",
    "JobCanceledError",
    "JobError",
    "JobFailedError",
    "JobRequest",
    "JobWarning",
    "NotFoundError",
    "Page",
    "Preset",
    "Preview",
    "RateLimitError",
    "RetriedJob",
    "SkippedJob",
    "SubmitFields",
    "UnavailableError",
    "UnreachableError",
    "UploadInterruptedError",
    "WaitTimeoutError",
    "WrongServerError",
    "__version__",
    "verify_webhook",
]
