"""Getting an attempt's input, from the platform's store or a caller's bucket, in the words of a job."""

from __future__ import annotations

from pathlib import Path

from jobs.errors import InputChangedError, InputDamagedError, InputMissingError, InputTooLargeError, StorageFailedError
from jobs.request import S3_URL
from jobs.service.attempts import Claim
from jobs.settings import Settings
from jobs.storage.errors import (
    ChecksumMismatchError,
    ObjectChangedError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StorageError,
)
from jobs.storage.protocol import ObjectStore


def fetch_input(claim: Claim, store: ObjectStore, settings: Settings, target: Path) -> bool:
    """Download the input to `target`; False when the job has none (words alone).

    Raises:
        InputMissingError, InputChangedError, InputTooLargeError, InputDamagedError: it cannot be had, ever.
        StorageFailedError: it cannot be had now.
    """
    if claim.input_key is None:
        return False
    limit = settings.max_upload_bytes
    try:
        if match := S3_URL.fullmatch(claim.input_key):
            _download_from_bucket(match["bucket"], match["key"], target, claim, settings)
        else:
            store.download_to(claim.input_key, target, max_bytes=limit)
    except ObjectNotFoundError as exc:
        raise InputMissingError("The input is gone, or this server may not read it.") from exc
    except ObjectChangedError as exc:
        raise InputChangedError("The input was overwritten after this job was made for it.") from exc
    except ObjectTooLargeError as exc:
        raise InputTooLargeError(f"The input has more than the allowed {limit} bytes.") from exc
    except ChecksumMismatchError as exc:
        raise InputDamagedError("The input's bytes are not those that were announced; upload the file again.") from exc
    except StorageError as exc:
        if not exc.retryable:
            raise InputMissingError("The input's name is not one that the store can hold.") from exc
        raise StorageFailedError("The object store did not give the input.") from exc
    return True


def _download_from_bucket(bucket: str, key: str, target: Path, claim: Claim, settings: Settings) -> None:
    from jobs.storage.s3.store import S3Store  # boto3, which a platform on a folder never needs

    store = S3Store.from_settings(f"s3://{bucket}", settings)
    store.download_from(bucket, key, target, max_bytes=settings.max_upload_bytes, pin=claim.input_pin)
