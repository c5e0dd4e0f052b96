"""Turns what boto3 raises into our errors: the only table of the error codes of S3 and compatible servers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum, auto

from boto3.exceptions import Boto3Error
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

from jobs.storage.errors import (
    BucketMissingError,
    ChecksumMismatchError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectFaultError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ServerRefusedError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    WriteRefusedError,
)

BACKEND = "s3"


class Operation(Enum):
    """What was tried; a refusal means something else for each."""

    READ = auto()
    """A refusal is never taken for a missing key: it is the operator's to mend."""
    DOWNLOAD = auto()
    """As READ; a failed precondition means that the object was overwritten during the download."""
    WRITE = auto()
    """A refusal or a missing bucket means that this server may not write there."""


# Codes of error documents, and the bare status where an answer has none (HEAD).
_KINDS: dict[type[StorageError], tuple[str, ...]] = {
    ObjectForbiddenError: ("403", "AccessDenied", "AllAccessDisabled", "Forbidden"),
    ServerRefusedError: (
        "401",
        "AccountProblem",
        "AuthorizationHeaderMalformed",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidAccessKeyId",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "InvalidToken",
        "MissingSecurityHeader",
        "NotSignedUp",
        "RequestExpired",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
        "TokenRefreshRequired",
        "UnrecognizedClientException",
    ),
    BucketMissingError: ("NoSuchBucket",),
    # 405: the version is a delete marker.
    ObjectNotFoundError: ("404", "405", "MethodNotAllowed", "NoSuchKey", "NoSuchVersion", "NotFound"),
    # 409: two conditional writes at once; the next call learns which of them won.
    ObjectExistsError: ("409", "412", "ConditionalRequestConflict", "PreconditionFailed"),
    StorageFullError: ("507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"),
    ObjectFaultError: ("500", "InternalError"),
    ChecksumMismatchError: ("BadDigest", "InvalidDigest", "XAmzContentChecksumMismatch", "XAmzContentSHA256Mismatch"),
}
_KIND_BY_CODE = {code: kind for kind, codes in _KINDS.items() for code in codes}
_KIND_BY_OPERATION: dict[Operation, dict[type[StorageError], type[StorageError]]] = {
    Operation.READ: {},
    Operation.DOWNLOAD: {ObjectExistsError: ObjectChangedError},
    Operation.WRITE: {
        ObjectForbiddenError: WriteRefusedError,
        ObjectNotFoundError: WriteRefusedError,
        BucketMissingError: WriteRefusedError,
    },
}
# What boto3 raises before it calls the server, because it has nothing to sign with.
_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    ProfileNotFound,
)
_NOT_IMPLEMENTED = {"501", "NotImplemented"}
_INVALID_VERSION = {"400", "InvalidArgument"}
# Answers of servers that do not delete several objects in one call, or want an older checksum with it.
_NO_BULK_DELETE = {*_NOT_IMPLEMENTED, "405", "MethodNotAllowed", "MissingContentMD5", "InvalidRequest"}
_REASONS: dict[type[StorageError], str] = {
    ObjectNotFoundError: "there is no such object",
    BucketMissingError: "there is no such bucket",
    ObjectForbiddenError: "this server may not read it",
    ServerRefusedError: "the store refuses this server",
    ObjectExistsError: "the key is taken",
    ObjectChangedError: "the object was overwritten meanwhile",
    StorageFullError: "the storage is full",
    ChecksumMismatchError: "the bytes that arrived are not those that were sent",
}


# What a person should look at; the code alone says it to those who know S3.
_HINTS = {
    "ExpiredToken": "its session token has expired",
    "InvalidAccessKeyId": "the store does not know its access key",
    "RequestTimeTooSkewed": "the clock of this server is wrong",
    "SignatureDoesNotMatch": "its secret key is wrong",
}


@contextmanager
def translated(what: str, operation: Operation) -> Iterator[None]:
    """Turn what boto3 raises inside the block into our errors, `from` the original.

    Args:
        what: begins the message: "Could not write 'key'".

    Raises:
        StorageError: the leaf class that the server's answer means for `operation`.
    """
    try:
        yield
    except ClientError as exc:
        code = error_code(exc)
        kind = _KIND_BY_CODE.get(code, StorageUnavailableError)
        kind = _KIND_BY_OPERATION[operation].get(kind, kind)
        reason = _HINTS.get(code) or _REASONS.get(kind)
        detail = f"{reason} ({code})" if reason else code or str(exc)
        raise kind(f"{what}: {detail}.", BACKEND) from exc
    except _NO_CREDENTIALS as exc:
        raise ServerRefusedError(f"{what}: {exc}", BACKEND) from exc
    except (BotoCoreError, Boto3Error) as exc:
        raise StorageUnavailableError(f"{what}: {exc}", BACKEND) from exc


def error_code(exc: ClientError) -> str:
    """Return the code of the server's answer; "" when it gave none."""
    return str(exc.response.get("Error", {}).get("Code", ""))


def is_not_implemented(exc: ClientError) -> bool:
    """Say whether the server does not know what was asked for (older S3-compatible servers and conditional writes)."""
    return error_code(exc) in _NOT_IMPLEMENTED


def is_invalid_version(exc: ClientError) -> bool:
    """Say whether the server refused a version id by its form: no such version exists."""
    return error_code(exc) in _INVALID_VERSION


def is_bulk_delete_refused(exc: ClientError) -> bool:
    """Say whether the server only deletes objects one by one."""
    return error_code(exc) in _NO_BULK_DELETE
