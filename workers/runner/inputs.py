"""Downloads an attempt's input, from the platform's store or a caller's bucket, and raises job errors."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

from jobs.errors import (
    BucketFailedError,
    DiskFullError,
    InputChangedError,
    InputDamagedError,
    InputForbiddenError,
    InputMissingError,
    InputTooLargeError,
    StorageFailedError,
    StorageRefusedError,
)
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


def fetch_input(claim: Claim, store: ObjectStore, settings: Settings, target: Path) -> bool:
    """Download the input to `target`; False when the job has none (a prompt only).

    Raises:
        InputMissingError, InputChangedError, InputTooLargeError, InputDamagedError, InputForbiddenError: a retry would
            fail as well.
        InfrastructureError: the store, the bucket or the scratch disk is in trouble.
    """
    if claim.input_key is None:
        return False
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
