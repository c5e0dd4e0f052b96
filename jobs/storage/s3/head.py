"""HEAD of an object, with the reason of a refusal: the answer to a HEAD has no body, so it names none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from jobs.storage.s3.errors import error_code


def head_object(client: Any, bucket: str, key: str, version: Mapping[str, str]) -> dict[str, Any]:
    """Return the server's answer to a HEAD.

    Args:
        version: the argument `VersionId`, or nothing.

    Raises:
        ClientError: with the code that a GET would bring: `InvalidAccessKeyId` and not 403, `NoSuchBucket` and not 404.
        BotoCoreError: the server did not answer.
    """
    try:
        answer: dict[str, Any] = client.head_object(Bucket=bucket, Key=key, **version)
    except ClientError as exc:
        if error_code(exc) == "403":
            _raise_reason(client, bucket, key, version)
        elif error_code(exc) == "404":
            _raise_if_bucket_is_missing(client, bucket)
        raise
    return answer


def _raise_reason(client: Any, bucket: str, key: str, version: Mapping[str, str]) -> None:
    try:
        client.get_object(Bucket=bucket, Key=key, Range="bytes=0-0", **version)["Body"].close()
    except ClientError as exc:
        if error_code(exc) != "InvalidRange":  # an empty object; then it may be read, and the HEAD alone is refused
            raise


def _raise_if_bucket_is_missing(client: Any, bucket: str) -> None:
    try:
        client.head_bucket(Bucket=bucket)
    except ClientError as exc:
        if error_code(exc) == "404":
            message = f"The bucket {bucket} does not exist."
            raise ClientError({"Error": {"Code": "NoSuchBucket", "Message": message}}, "HeadObject") from exc
        # Without the right to list, the server does not say whether the bucket exists; the key's 404 then counts.
