"""Downloads an attempt's input, from the platform's store, a caller's bucket or a URL, and raises job errors."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from http import HTTPStatus
from pathlib import Path

from jobs.errors import (
    BucketFailedError,
    DiskFullError,
    InputChangedError,
    InputDamagedError,
    InputForbiddenError,
    InputMissingError,
    InputRefusedError,
    InputTooLargeError,
    InputUnreachableError,
    StorageFailedError,
    StorageRefusedError,
)
from jobs.outbound.calls import fetch
from jobs.outbound.errors import OutboundError, OutboundStatusError, OutboundTooLargeError
from jobs.outbound.policy import OutboundPolicy
from jobs.outbound.urls import shown_url
from jobs.request import is_web_url
from jobs.s3_urls import OBJECT_URL
from jobs.service.attempts import Claim
from jobs.settings import Settings
from jobs.storage.errors import (
    BucketMissingError,
    ChecksumMismatchError,
    ObjectChangedError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    ServerRefusedError,
    StorageError,
    StorageFullError,
)
from jobs.storage.protocol import ObjectStore

# How long a job waits for the right to read an object of a caller's bucket.
FORBIDDEN_WAIT = timedelta(days=1)
_GONE = frozenset({HTTPStatus.NOT_FOUND, HTTPStatus.GONE})
_FORBIDDEN = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})

log = logging.getLogger(__name__)


def fetch_input(
    claim: Claim,
    store: ObjectStore,
    settings: Settings,
    target: Path,
) -> bool:
    """Download the input to `target`; False when the job has none (a prompt only).

    Raises:
        InputMissingError, InputChangedError, InputTooLargeError, InputDamagedError, InputForbiddenError,
            InputRefusedError: a retry would fail as well.
        InputUnreachableError: the host of a URL is in trouble.
        InfrastructureError: the store, the bucket or the scratch disk is in trouble.
    """
    if claim.input_key is None:
        return False
    if is_web_url(claim.input_key):
        fetch_url(claim.input_key, claim, settings, target, hosts=tuple(settings.input_hosts))
        return True
    limit = settings.max_upload_bytes
    match = OBJECT_URL.fullmatch(claim.input_key)
    try:
        if match:
            _download_from_bucket(match["bucket"], match["key"], target, claim, settings)
        else:
            store.download_to(claim.input_key, target, max_bytes=limit)
    except ObjectNotFoundError as exc:
        raise InputMissingError("The input does not exist; upload the file again.") from exc
    except ObjectChangedError as exc:
        raise InputChangedError("The input was overwritten after this job was created.") from exc
    except ObjectTooLargeError as exc:
        raise InputTooLargeError(f"The input has more than the allowed {limit} bytes.") from exc
    except ChecksumMismatchError as exc:
        raise InputDamagedError("The input does not match its SHA-256; upload the file again.") from exc
    except StorageFullError as exc:
        raise DiskFullError("The worker's scratch disk is full; the input was not downloaded.") from exc
    except ServerRefusedError as exc:
        raise StorageRefusedError(f"The object store {exc.summary}: {exc}") from exc
    except StorageError as exc:
        if match:
            raise _bucket_error(exc, match["bucket"], claim.created_at, claim.started_at) from exc
        raise _store_error(exc) from exc
    return True


def fetch_url(
    url: str,
    claim: Claim,
    settings: Settings,
    target: Path,
    *,
    hosts: tuple[str, ...],
    check_stop: Callable[[], None] = lambda: None,
) -> None:
    """Download the input from a URL.

    Args:
        hosts: patterns of those that the tenant may fetch from now.
        check_stop: called about every second; what it raises ends the download.

    Raises:
        InputMissingError, InputForbiddenError, InputTooLargeError, InputRefusedError: a retry would fail as well.
        InputUnreachableError: its host is in trouble.
        OSError: the scratch disk is in trouble.
    """
    policy = OutboundPolicy.for_inputs(settings, hosts)
    try:
        fetched = fetch(url, target, policy, interrupt=check_stop)
    except OutboundError as exc:
        raise _url_error(exc, url) from exc
    log.info(
        "job %s: fetched %d bytes from %s, sha256 %s",
        claim.job_id, fetched.size_bytes, shown_url(url), fetched.sha256,
    )  # fmt: skip


def _store_error(exc: StorageError) -> Exception:
    """Return what an error of the platform's own store means for the job."""
    if isinstance(exc, ObjectForbiddenError | BucketMissingError):
        return StorageRefusedError(f"The object store {exc.summary}: {exc}")
    if not exc.retryable:
        return InputMissingError("The input's key is not one that the store can hold.")
    return StorageFailedError(f"The object store {exc.summary}; the input was not downloaded.")


def _bucket_error(exc: StorageError, bucket: str, created_at: datetime, now: datetime) -> Exception:
    """Return what an error of a caller's bucket means for the job."""
    if isinstance(exc, BucketMissingError):
        return InputMissingError(f"The bucket {bucket} does not exist.")
    if isinstance(exc, ObjectForbiddenError):
        # The operator's to mend; but without the right to list, a missing object looks the same.
        message = f"This server may not read the input in bucket {bucket}; its operator has to allow it."
        return InputForbiddenError(message) if now - created_at > FORBIDDEN_WAIT else BucketFailedError(message)
    if not exc.retryable:
        return InputMissingError("The input's key is not one that the store can hold.")
    return BucketFailedError(f"The object store {exc.summary}; the input in bucket {bucket} was not downloaded.")


def _download_from_bucket(bucket: str, key: str, target: Path, claim: Claim, settings: Settings) -> None:
    from jobs.storage.s3.store import S3Store  # imports boto3, which a platform on a folder does not need

    store = S3Store.from_settings(f"s3://{bucket}", settings)
    store.download_from(bucket, key, target, max_bytes=settings.max_upload_bytes, pin=claim.input_pin)


def _url_error(exc: OutboundError, url: str) -> Exception:
    """Return what an error of a URL means for the job."""
    if isinstance(exc, OutboundTooLargeError):
        return InputTooLargeError(exc.message)
    if exc.retryable:
        return InputUnreachableError(exc.message)
    if isinstance(exc, OutboundStatusError) and exc.status in _GONE:
        return InputMissingError(f"There is nothing at {shown_url(url)}: {exc.message}")
    if isinstance(exc, OutboundStatusError) and exc.status in _FORBIDDEN:
        return InputForbiddenError(f"{exc.message} A signed URL may have expired.")
    return InputRefusedError(exc.message)
