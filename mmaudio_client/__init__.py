"""The Python client of the platform and the `mmaudio` command for people who only talk HTTP.

Light on purpose: httpx, click and rich, and nothing else of this project.
"""

from mmaudio_client.client import Client
from mmaudio_client.errors import (
    ApiError,
    ClientError,
    ConflictError,
    DownloadError,
    InvalidRequestError,
    JobCanceledError,
    JobFailedError,
    NotFoundError,
    UnavailableError,
    WaitTimeoutError,
    WrongServerError,
)
from mmaudio_client.models import Artifact, Job, Page

__all__ = [
    "ApiError",
    "Artifact",
    "Client",
    "ClientError",
    "ConflictError",
    "DownloadError",
    "InvalidRequestError",
    "Job",
    "JobCanceledError",
    "JobFailedError",
    "NotFoundError",
    "Page",
    "UnavailableError",
    "WaitTimeoutError",
    "WrongServerError",
]
