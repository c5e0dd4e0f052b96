"""Objects in a bucket of S3 or of a compatible server (MinIO, Ceph RGW, ...)."""

from __future__ import annotations

import base64
import hashlib
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO
from urllib.parse import urlsplit

from botocore.exceptions import BotoCoreError, ClientError

from jobs.file_names import content_disposition
from jobs.settings import Settings
from jobs.storage.errors import (
    ChecksumMismatchError,
    InvalidKeyError,
    ObjectChangedError,
    ObjectExistsError,
    ObjectNotFoundError,
    ObjectTooLargeError,
    StorageUnavailableError,
)
from jobs.storage.protocol import CHUNK_BYTES, CallLimits, ObjectMetadata, ObjectPin, UnfinishedWrite, UploadTarget
from jobs.storage.s3.client import DEFAULT_LIMITS, ClientOptions, s3_client
from jobs.storage.s3.copy import Copy, copy_object
from jobs.storage.s3.download import download
from jobs.storage.s3.encryption import Encryption
from jobs.storage.s3.errors import BACKEND, Operation, is_bulk_delete_refused, is_not_implemented, translated
from jobs.storage.s3.head import head_object
from jobs.storage.s3.part_writes import S3PartWrites
from jobs.storage.s3.streams import BoundedReader, parts_of
from jobs.storage.s3.upload import Upload, send

SHA256_FIELD = "sha256"
PUT_ID_FIELD = "mmaudio-put-id"
MAX_KEY_BYTES = 1024
COPY_READ_S = 120.0


class S3Store:
    """A bucket, and a prefix of all its keys. Threads and forked processes may share a store.

    Args:
        url: `s3://bucket` or `s3://bucket/prefix`.
        options: how to reach the server; the default is AWS.
        public_endpoint_url: address of the same server for callers; signed URLs have it. Default: that of `options`.

    Raises:
        ValueError: the URL names no bucket.
    """

    backend = BACKEND
    range_writes = None

    def __init__(
        self,
        url: str,
        options: ClientOptions | None = None,
        *,
        encryption: Encryption | None = None,
        public_endpoint_url: str | None = None,
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise ValueError(f"Got storage URL {url!r}; give s3://bucket or s3://bucket/prefix.")
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/")
        self._below = f"{self._prefix}/" if self._prefix else ""
        self._encryption = encryption or Encryption()
        self._supports_conditions = True
        self._options = options or ClientOptions()
        self._public_options = replace(self._options, endpoint_url=public_endpoint_url or self._options.endpoint_url)
        endpoint = f" at {self._options.endpoint_url}" if self._options.endpoint_url else ""
        self.location = f"s3://{self._bucket}/{self._below}{endpoint}"

    @property
    def part_writes(self) -> S3PartWrites:
        """See `ObjectStore.part_writes`."""
        return S3PartWrites(
            self._bucket,
            client=lambda: self._client,
            public_client=lambda: self._public_client,
            finishing_client=lambda: self._copying_client,
            full=self._full,
            head=self.head,
            properties=self._properties,
        )

    def _properties(self, content_type: str, sha256: str | None) -> dict[str, Any]:
        """Return boto3's arguments for a new object."""
        metadata = {SHA256_FIELD: sha256} if sha256 else {}
        return {"ContentType": content_type, "Metadata": metadata, **self._encryption.arguments()}

    @classmethod
    def from_settings(cls, url: str, settings: Settings, limits: CallLimits = DEFAULT_LIMITS) -> S3Store:
        """Return the store of a bucket on the endpoint that the settings name."""
        return cls(
            url,
            ClientOptions.from_settings(settings, limits),
            encryption=Encryption(settings.s3_encryption, settings.s3_kms_key_id),
            public_endpoint_url=settings.s3_public_endpoint_url,
        )

    @property
    def _client(self) -> Any:
        return s3_client(self._options)

    @property
    def _public_client(self) -> Any:
        """The client that only signs: a signature covers the host, so it is made for the address that callers use."""
        return s3_client(self._public_options)

    @property
    def _copying_client(self) -> Any:
        """A client that waits while the server copies, which takes long for a large object."""
        waiting = replace(self._options, read_timeout_s=max(self._options.read_timeout_s, COPY_READ_S))
        return s3_client(waiting)

    def put_file(
        self,
        key: str,
        path: Path,
        *,
        content_type: str,
        user_metadata: Mapping[str, str] | None = None,
        if_absent: bool = False,
        replacing: str | None = None,
    ) -> ObjectMetadata:
        """Store a file as the protocol says; with `replacing`, only over the object of that ETag."""
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        metadata = {**(user_metadata or {}), SHA256_FIELD: digest}
        condition = {"IfNoneMatch": "*"} if if_absent else {"IfMatch": replacing} if replacing is not None else {}
        if condition and self._supports_conditions:
            try:
                with path.open("rb") as file:
                    return self._put(key, parts_of(file), content_type, metadata, condition)
            except _ConditionsUnsupportedError:
                self._supports_conditions = False
        if condition:
            self._compare(key, condition)  # not atomic, but all that such a server allows
        with path.open("rb") as file:
            return self._put(key, parts_of(file), content_type, metadata, {})

    def put_stream(
        self, key: str, stream: BinaryIO, *, content_type: str, max_bytes: int, sha256: str | None = None
    ) -> ObjectMetadata:
        bounded = BoundedReader(stream, max_bytes, sha256)
        return self._put(key, parts_of(bounded), content_type, {SHA256_FIELD: sha256} if sha256 else {}, {})

    def _put(
        self,
        key: str,
        parts: Iterator[bytes],
        content_type: str,
        metadata: dict[str, str],
        condition: dict[str, str],
    ) -> ObjectMetadata:
        put_id = uuid.uuid4().hex
        properties = {
            "ContentType": content_type,
            "Metadata": {**metadata, PUT_ID_FIELD: put_id},
            **self._encryption.arguments(),
        }
        with translated(f"Could not write {key!r}", Operation.WRITE):
            upload = Upload(self._bucket, self._full(key), properties, condition)
            try:
                send(self._client, upload, parts)
            except ClientError as exc:
                if condition and is_not_implemented(exc):
                    raise _ConditionsUnsupportedError from exc
                # An earlier try may have written the object and its answer was lost.
                if not self._is_ours(key, put_id):
                    raise
        return self.head(key)

    def _is_ours(self, key: str, put_id: str) -> bool:
        try:
            answer = self._client.head_object(Bucket=self._bucket, Key=self._full(key))
        except (ClientError, BotoCoreError):
            return False
        return bool(answer.get("Metadata", {}).get(PUT_ID_FIELD) == put_id)

    def _compare(self, key: str, condition: dict[str, str]) -> None:
        """Check a condition by a HEAD, for a server that cannot.

        Raises:
            ObjectExistsError: it does not hold.
        """
        try:
            etag = self.head(key).etag
        except ObjectNotFoundError:
            return
        if condition.get("IfMatch") != etag:
            raise ObjectExistsError(f"The key {key!r} is taken.", BACKEND)

    def open_read(self, key: str, *, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        wanted: dict[str, str] = {}
        if start or end is not None:
            wanted["Range"] = f"bytes={start}-{'' if end is None else end - 1}"
        with translated(f"Could not read {key!r}", Operation.READ):
            answer = self._client.get_object(Bucket=self._bucket, Key=self._full(key), **wanted)
        return _chunks(key, answer["Body"])

    def download_to(self, key: str, path: Path, *, max_bytes: int | None = None) -> ObjectMetadata:
        return self._download(self._bucket, self._full(key), key, path, max_bytes)

    def download_from(
        self, bucket: str, key: str, path: Path, *, max_bytes: int | None = None, pin: ObjectPin | None = None
    ) -> ObjectMetadata:
        """Copy an object of another bucket to a file; raises what `download_to` raises.

        Args:
            pin: the version to copy; None: the latest.

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
        with translated(f"Could not read {key!r}", Operation.DOWNLOAD):
            download(
                self._client, bucket, full, path, size_bytes=metadata.size_bytes, etag=metadata.etag, version=version
            )
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
        with translated(f"Could not read {key!r}", Operation.READ):
            answer = head_object(self._client, bucket, full, version)
        user_metadata = dict(answer.get("Metadata", {}))
        user_metadata.pop(PUT_ID_FIELD, None)
        return ObjectMetadata(
            key=key,
            size_bytes=int(answer["ContentLength"]),
            etag=str(answer["ETag"]).strip('"'),
            sha256=user_metadata.pop(SHA256_FIELD, None),
            content_type=str(answer.get("ContentType", "application/octet-stream")),
            last_modified=answer["LastModified"],
            user_metadata=user_metadata,
        )

    def copy(
        self, source: str, target: str, *, etag: str, content_type: str, sha256: str | None = None
    ) -> ObjectMetadata:
        properties = self._properties(content_type, sha256)
        size_bytes = self.head(source).size_bytes
        copying = Copy(self._bucket, self._full(source), self._full(target), etag, size_bytes, properties)
        with translated(f"Could not copy {source!r}", Operation.DOWNLOAD):
            computed = copy_object(self._copying_client, copying)
        return replace(self.head(target), sha256=computed)

    def delete(self, keys: Iterable[str]) -> None:
        with translated("Could not delete objects", Operation.WRITE):
            for group in _groups(keys, 1000):
                self._delete_group([self._full(key) for key in group])

    def _delete_group(self, full_keys: list[str]) -> None:
        wanted = {"Objects": [{"Key": full} for full in full_keys], "Quiet": True}
        try:
            answer = self._client.delete_objects(Bucket=self._bucket, Delete=wanted)
        except ClientError as exc:
            if not is_bulk_delete_refused(exc):
                raise
            remaining = full_keys
        else:
            remaining = [str(error["Key"]) for error in answer.get("Errors", [])]
        for full in remaining:  # one by one: a failure then names its reason
            self._client.delete_object(Bucket=self._bucket, Key=full)

    def list_keys(self, prefix: str) -> Iterator[str]:
        wanted = {"Bucket": self._bucket, "Prefix": self._below + prefix}
        with translated(f"Could not list {prefix!r}", Operation.READ):
            for page in self._client.get_paginator("list_objects_v2").paginate(**wanted):
                for entry in page.get("Contents", []):
                    yield str(entry["Key"])[len(self._below) :]

    def presigned_get(
        self, key: str, *, expires_s: int, filename: str, content_type: str, inline: bool = False
    ) -> str | None:
        return str(
            self._public_client.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": self._full(key),
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": content_disposition(filename, inline=inline),
                },
                ExpiresIn=expires_s,
            )
        )

    def upload_target(
        self, key: str, *, size_bytes: int, content_type: str, sha256: str | None, expires_s: int, now: datetime
    ) -> UploadTarget | None:
        # A form and not a PUT: only its policy can bound the size.
        fields = {"Content-Type": content_type, **self._encryption.form_fields()}
        if sha256 is not None:
            # The server compares the second one; one that does not know it stores it or ignores it.
            fields[f"x-amz-meta-{SHA256_FIELD}"] = sha256
            fields["x-amz-checksum-algorithm"] = "SHA256"
            fields["x-amz-checksum-sha256"] = base64.b64encode(bytes.fromhex(sha256)).decode()
        conditions: list[Any] = [["content-length-range", size_bytes, size_bytes]]
        conditions += [{name: value} for name, value in fields.items()]
        form = self._public_client.generate_presigned_post(
            self._bucket, self._full(key), Fields=dict(fields), Conditions=conditions, ExpiresIn=expires_s
        )
        return UploadTarget("POST", form["url"], {}, form["fields"], now + timedelta(seconds=expires_s))

    def unfinished_writes(self, *, older_than_s: float) -> Iterator[UnfinishedWrite]:
        before = datetime.now(UTC) - timedelta(seconds=older_than_s)
        with translated("Could not list unfinished uploads", Operation.READ):
            pages = self._client.get_paginator("list_multipart_uploads").paginate(
                Bucket=self._bucket, Prefix=self._below
            )
            for page in pages:
                for entry in page.get("Uploads", []):
                    full = str(entry["Key"])
                    if entry["Initiated"] < before:
                        discard = partial(self._abort_upload, full, str(entry["UploadId"]))
                        yield UnfinishedWrite(full, entry["Initiated"], discard, full.removeprefix(self._below))

    def _abort_upload(self, full: str, upload_id: str) -> None:
        with translated(f"Could not discard the parts of {full!r}", Operation.WRITE):
            try:
                self._client.abort_multipart_upload(Bucket=self._bucket, Key=full, UploadId=upload_id)
            except self._client.exceptions.NoSuchUpload:
                return  # it was finished or discarded meanwhile

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


class _ConditionsUnsupportedError(Exception):
    """Raised when the server does not support conditional writes."""


def _chunks(key: str, body: Any) -> Iterator[bytes]:
    with translated(f"Could not read {key!r}", Operation.READ), body:
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
