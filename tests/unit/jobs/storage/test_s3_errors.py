"""Which of our errors a server's code means, for each kind of call."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError, NoCredentialsError

from jobs.storage.errors import (
    BucketMissingError,
    ChecksumMismatchError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    ServerRefusedError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
    WriteRefusedError,
)
from jobs.storage.s3.errors import Operation, translated


def answered(code: str, operation: Operation) -> StorageError:
    with pytest.raises(StorageError) as caught, translated("Could not do it", operation):
        raise ClientError({"Error": {"Code": code, "Message": "m"}}, "Call")
    return caught.value


@pytest.mark.parametrize(
    ("code", "operation", "kind"),
    [
        ("403", Operation.READ, ObjectForbiddenError),
        ("AccessDenied", Operation.DOWNLOAD, ObjectForbiddenError),
        ("AccessDenied", Operation.WRITE, WriteRefusedError),
        ("InvalidAccessKeyId", Operation.READ, ServerRefusedError),
        ("SignatureDoesNotMatch", Operation.DOWNLOAD, ServerRefusedError),
        ("RequestTimeTooSkewed", Operation.WRITE, ServerRefusedError),
        ("ExpiredToken", Operation.READ, ServerRefusedError),
        ("404", Operation.READ, ObjectNotFoundError),
        ("NoSuchBucket", Operation.READ, BucketMissingError),
        ("NoSuchBucket", Operation.DOWNLOAD, BucketMissingError),
        ("NoSuchBucket", Operation.WRITE, WriteRefusedError),
        ("405", Operation.READ, ObjectNotFoundError),
        ("412", Operation.WRITE, ObjectExistsError),
        ("409", Operation.WRITE, ObjectExistsError),
        ("412", Operation.DOWNLOAD, ObjectChangedError),
        ("507", Operation.WRITE, StorageFullError),
        ("XMinioStorageFull", Operation.WRITE, StorageFullError),
        ("BadDigest", Operation.WRITE, ChecksumMismatchError),
        ("SlowDown", Operation.READ, StorageUnavailableError),
        ("", Operation.WRITE, StorageUnavailableError),
    ],
)
def test_a_code_means_one_error_for_each_operation(code: str, operation: Operation, kind: type[StorageError]) -> None:
    error = answered(code, operation)
    assert type(error) is kind
    assert str(error).startswith("Could not do it: ")
    assert code in str(error)


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    with pytest.raises(StorageUnavailableError, match="http://s3"), translated("Could not read", Operation.READ):
        raise EndpointConnectionError(endpoint_url="http://s3")


def test_a_server_without_credentials_is_refused_and_the_store_is_not_away() -> None:
    with pytest.raises(ServerRefusedError, match="credentials"), translated("Could not read", Operation.READ):
        raise NoCredentialsError


def test_a_password_in_the_endpoint_is_in_no_message() -> None:
    with pytest.raises(StorageUnavailableError) as caught, translated("Could not read", Operation.READ):
        raise EndpointConnectionError(endpoint_url="https://key:hunter2@s3.example/bucket")
    assert "https://key:***@s3.example" in str(caught.value)
    assert "hunter2" not in str(caught.value)
