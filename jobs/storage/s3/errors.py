"""From what boto3 raises to our errors, by the codes that S3 and its likes answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from boto3.exceptions import Boto3Error
from botocore.exceptions import BotoCoreError, ClientError

from jobs.storage.errors import (
    ChecksumMismatchError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    WriteRefusedError,
)

BACKEND = "s3"
_REFUSED = {"403", "AccessDenied", "Forbidden", "AllAccessDisabled", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
_NO_BUCKET = {"NoSuchBucket"}
_ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchVersion"}
# 409: two conditional writes met; whoever asks again learns who won.
_TAKEN = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_FULL = {"507", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}
_DAMAGED = {"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "XAmzContentChecksumMismatch"}
_UNKNOWN_TO_SERVER = {"501", "NotImplemented"}


@contextmanager
def translated(what: str, *, writing: bool = False, reading: bool = False) -> Iterator[None]:
    """Turn what boto3 raises into our errors.

    Args:
        writing: a refusal then means that this server may not write; for a reader it means that there is nothing.
        reading: a failed precondition then means that the object was overwritten meanwhile.
    """
    try:
        yield
    except ClientError as exc:
        if reading and error_code(exc) in _TAKEN:
            raise ObjectChangedError(f"{what}: it was overwritten meanwhile.", BACKEND) from exc
        raise _from_client_error(exc, what, writing) from exc
    except (BotoCoreError, Boto3Error) as exc:
        raise StorageUnavailableError(f"{what}: {exc}", BACKEND) from exc


def error_code(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))


def is_unknown_to_server(exc: ClientError) -> bool:
    """Say whether the server does not know what was asked for (older S3-compatible servers and conditions)."""
    return error_code(exc) in _UNKNOWN_TO_SERVER


def _from_client_error(exc: ClientError, what: str, writing: bool) -> StorageError:
    code = error_code(exc)
    if code in _REFUSED | _NO_BUCKET | _ABSENT:
        kind = WriteRefusedError if writing else ObjectNotFoundError
        return kind(f"{what}: {code}.", BACKEND)
    if code in _TAKEN:
        return ObjectExistsError(f"{what}: the key is taken.", BACKEND)
    if code in _FULL:
        return StorageFullError(f"{what}: {code}.", BACKEND)
    if code in _DAMAGED:
        return ChecksumMismatchError(f"{what}: the bytes that arrived are not those that were sent.", BACKEND)
    return StorageUnavailableError(f"{what}: {code or exc}.", BACKEND)
