"""Objects in a bucket of S3 or anything that speaks its API (MinIO, Ceph RGW, ...). Retries and parts are boto3's."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO
from urllib.parse import quote, urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig, create_transfer_manager
from botocore.client import Config
from botocore.exceptions import BotoCoreError, ClientError
from s3transfer.subscribers import BaseSubscriber

from jobs.storage.errors import (
    ChecksumMismatchError,
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from jobs.storage.protocol import CHUNK_BYTES, ObjectMetadata, ObjectPin, UploadTarget

BACKEND = "s3"
SHA256_FIELD = "sha256"
MAX_KEY_BYTES = 1024
_TRANSFER = TransferConfig(multipart_threshold=8 * 1024**2, multipart_chunksize=8 * 1024**2, max_concurrency=4)
_ABSENT = {"404", "NoSuchKey", "NotFound", "NoSuchBucket", "403", "AccessDenied", "Forbidden"}
_TAKEN = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_FULL = {"507", "QuotaExceeded", "InsufficientStorage", "XMinioStorageFull"}


def s3_client(*, endpoint_url: str | None = None, region: str | None = None, addressing_style: str = "auto") -> Any:
    """Return a boto3 client set up as every part of this project wants it."""
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=region,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": addressing_style},  # type: ignore[arg-type]
            connect_timeout=3,
            read_timeout=30,
            retries={"mode": "standard", "max_attempts": 4},
            # Newer checksum headers by default break older S3-compatible servers; our SHA-256 goes as metadata.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


class S3Store:
    """A bucket, and a prefix below which all keys lie.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        endpoint_url: address of an S3-compatible server; None is AWS. Credentials come by boto3's own chain.
        addressing_style: `auto`, `path` or `virtual`.

    Raises:
        ValueError: the URL names no bucket.
    """

    backend = BACKEND

    def __init__(
        self, url: str, *, endpoint_url: str | None = None, region: str | None = None, addressing_style: str = "auto"
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"Got storage URL {url!r}; give s3://bucket or s3://bucket/prefix.")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self._client = s3_client(endpoint_url=endpoint_url, region=region, addressing_style=addressing_style)

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        user_metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
    ) -> ObjectMetadata:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        metadata = {**(user_metadata or {}), SHA256_FIELD: digest}
        full = self._full(key)
        with _translated(f"Could not write {key!r}"):
            if if_absent:
                with path.open("rb") as file:
                    self._client.put_object(
                        Bucket=self._bucket,
                        Key=full,
                        Body=file,
                        ContentType=content_type,
                        Metadata=metadata,
                        IfNoneMatch="*",
                    )
            else:
                extra = {"ContentType": content_type, "Metadata": metadata}
                self._client.upload_file(str(path), self._bucket, full, ExtraArgs=extra, Config=_TRANSFER)
        return self.head(key)

    def put_stream(
        self, key: str, stream: BinaryIO, *, content_type: str, max_bytes: int, sha256: str | None = None
    ) -> ObjectMetadata:
        full = self._full(key)
        bounded = _BoundedReader(stream, max_bytes)
        metadata = {SHA256_FIELD: sha256} if sha256 else {}
        extra = {"ContentType": content_type, "Metadata": metadata}
        with _translated(f"Could not write {key!r}"):
            self._client.upload_fileobj(bounded, self._bucket, full, ExtraArgs=extra, Config=_TRANSFER)
        if sha256 is not None and bounded.hexdigest() != sha256:
            self.delete([key])
            raise ChecksumMismatchError(f"The bytes hash to {bounded.hexdigest()}, announced was {sha256}.", BACKEND)
        return self.head(key)

    def open_read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        wanted: dict[str, str] = {}
        if start or end is not None:
            wanted["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with _translated(f"Could not read {key!r}"):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._full(key), **wanted)
        return _chunks(key, answer["Body"])

    def download_to(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectMetadata:
        return self._download(self._bucket, self._full(key), key, path, max_bytes)

    def download_from(
        self, bucket: str, key: str, path: Path, *, max_bytes: int | None = None, pin: ObjectPin | None = None
    ) -> ObjectMetadata:
        """Copy an object of another bucket to a file; raises what `download_to` raises.

        Args:
            pin: the version that is meant; None is whatever lies there now.

        Raises:
            ObjectChangedError: the object was overwritten since it was pinned.
        """
        return self._download(bucket, key, key, path, max_bytes, pin)

    def _download(
        self, bucket: str, full: str, key: str, path: Path, max_bytes: int | None, pin: ObjectPin | None = None
    ) -> ObjectMetadata:
        version = {"VersionId": pin.version_id} if pin is not None and pin.version_id is not None else {}
        metadata = self._head(bucket, full, key, version)
        if pin is not None and metadata.etag != pin.etag:
            raise ObjectChangedError(f"The object {key!r} was overwritten meanwhile.", BACKEND)
        if max_bytes is not None and metadata.size_bytes > max_bytes:
            raise ObjectTooLargeError(
                f"The object has {metadata.size_bytes} bytes, at most {max_bytes} are allowed.", BACKEND
            )
        with (
            _translated(f"Could not read {key!r}", reading=True),
            create_transfer_manager(self._client, _TRANSFER) as manager,
        ):
            # With size and ETag given, every GET carries If-Match: the parts are those of the object looked at above.
            seen = _Seen(metadata.size_bytes, metadata.etag)
            manager.download(bucket, full, str(path), extra_args=version, subscribers=[seen]).result()
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if metadata.sha256 is not None and digest != metadata.sha256:
            raise ChecksumMismatchError(f"The stored object {key!r} is damaged.", BACKEND)
        return metadata

    def head(self, key: str) -> ObjectMetadata:
        return self._head(self._bucket, self._full(key), key)

    def _head(
        self, bucket: str, full: str, key: str, version: Mapping[str, str] = MappingProxyType({})
    ) -> ObjectMetadata:
        with _translated(f"There is no object {key!r} that this server may read"):
            answer = self._client.head_object(Bucket=bucket, Key=full, **version)
        user_metadata = dict(answer.get("Metadata", {}))
        return ObjectMetadata(
            key=key,
            size_bytes=int(answer["ContentLength"]),
            etag=str(answer["ETag"]).strip('"'),
            sha256=user_metadata.pop(SHA256_FIELD, None),
            content_type=str(answer.get("ContentType", "application/octet-stream")),
            last_modified=answer["LastModified"],
            user_metadata=user_metadata,
        )

    def delete(self, keys: Iterable[str]) -> None:
        with _translated("Could not delete objects"):
            for group in _groups(keys, 1000):
                wanted = {"Objects": [{"Key": self._full(key)} for key in group], "Quiet": True}
                self._client.delete_objects(Bucket=self._bucket, Delete=wanted)

    def list_keys(self, prefix: str) -> Iterator[str]:
        below = f"{self._prefix}/" if self._prefix else ""
        with _translated(f"Could not list {prefix!r}"):
            pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=self._bucket, Prefix=below + prefix)
            for page in pages:
                for entry in page.get("Contents", []):
                    yield str(entry["Key"])[len(below) :]

    def presigned_get(
        self, key: str, *, expires_s: int, filename: str, content_type: str, inline: bool = False
    ) -> str | None:
        shown = "inline" if inline else "attachment"
        return str(
            self._client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": self._full(key),
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": f"{shown}; filename*=UTF-8''{quote(filename)}",
                },
                ExpiresIn=expires_s,
            )
        )

    def upload_target(
        self, key: str, *, size_bytes: int, content_type: str, sha256: str | None, expires_s: int, now: datetime
    ) -> UploadTarget | None:
        # A form and not a PUT: only its policy can bound the size.
        fields = {"Content-Type": content_type}
        if sha256 is not None:  # travels with the object and is compared when it is read
            fields[f"x-amz-meta-{SHA256_FIELD}"] = sha256
        conditions: list[Any] = [["content-length-range", size_bytes, size_bytes]]
        conditions += [{name: value} for name, value in fields.items()]
        form = self._client.generate_presigned_post(
            self._bucket, self._full(key), Fields=dict(fields), Conditions=conditions, ExpiresIn=expires_s
        )
        return UploadTarget("POST", form["url"], {}, form["fields"], now + timedelta(seconds=expires_s))

    def check(self) -> None:
        try:
            self._client.head_bucket(Bucket=self._bucket)
        except (BotoCoreError, ClientError) as exc:
            raise StorageUnavailableError(f"The bucket {self._bucket!r} cannot be reached: {exc}", BACKEND) from exc

    def _full(self, key: str) -> str:
        full = f"{self._prefix}/{key}" if self._prefix else key
        if not key or "\x00" in key or len(full.encode()) > MAX_KEY_BYTES:
            raise InvalidKeyError(f"Got key {key[:80]!r}; a key has 1 to {MAX_KEY_BYTES} bytes and no NUL.", BACKEND)
        if any(part in {"", ".", ".."} for part in key.split("/")):
            raise InvalidKeyError(f"Got key {key[:80]!r}; parts may not be empty, '.' or '..'.", BACKEND)
        return full


class _Seen(BaseSubscriber):
    """Tells a transfer what a HEAD said, so that it asks for just that object."""

    def __init__(self, size_bytes: int, etag: str) -> None:
        self._size_bytes, self._etag = size_bytes, etag

    def on_queued(self, future: Any, **_: Any) -> None:
        future.meta.provide_transfer_size(self._size_bytes)
        future.meta.provide_object_etag(f'"{self._etag}"')


class _BoundedReader:
    """Reads a stream up to a limit and hashes what passes."""

    def __init__(self, stream: BinaryIO, max_bytes: int) -> None:
        self._stream, self._max_bytes, self._size, self._digest = stream, max_bytes, 0, hashlib.sha256()

    def read(self, amount: int = -1) -> bytes:
        chunk = self._stream.read(CHUNK_BYTES if amount < 0 else amount)
        self._size += len(chunk)
        if self._size > self._max_bytes:
            raise ObjectTooLargeError(f"More than the allowed {self._max_bytes} bytes came.", BACKEND)
        self._digest.update(chunk)
        return chunk

    def hexdigest(self) -> str:
        return self._digest.hexdigest()


def _chunks(key: str, body: Any) -> Iterator[bytes]:
    with _translated(f"Could not read {key!r}"), body:
        yield from body.iter_chunks(CHUNK_BYTES)


def _groups(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    group: list[str] = []
    for key in keys:
        group.append(key)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


@contextmanager
def _translated(what: str, *, reading: bool = False) -> Iterator[None]:
    """Turn what boto3 raises into our errors; a failed precondition means another thing when reading."""
    try:
        yield
    except ClientError as exc:
        if reading and _code(exc) in _TAKEN:
            raise ObjectChangedError(f"{what}: it was overwritten meanwhile.", BACKEND) from exc
        raise _from_client_error(exc, what) from exc
    except (BotoCoreError, Boto3Error) as exc:
        raise StorageUnavailableError(f"{what}: {exc}", BACKEND) from exc


def _from_client_error(exc: ClientError, what: str) -> StorageError:
    code = _code(exc)
    if code in _ABSENT:
        return ObjectNotFoundError(f"{what}: {code}.", BACKEND)
    if code in _TAKEN:
        return ObjectExistsError(f"{what}: the key is taken.", BACKEND)
    if code in _FULL:
        return StorageFullError(f"{what}: {code}.", BACKEND)
    return StorageUnavailableError(f"{what}: {code or exc}.", BACKEND)


def _code(exc: ClientError) -> str:
    return str(exc.response.get("Error", {}).get("Code", ""))
