"""Delivers files to a caller's own bucket, `s3://bucket/prefix/<job id>/<name>`, each exactly once despite crashes.

Every object carries its job and attempt in its metadata. All attempts at a job use the same names, so a later attempt
replaces what an earlier one left and nothing exists twice. A late write of a superseded attempt is conditional on the
ETag it has read, fails and changes nothing (docs/adr/0009).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from jobs.s3_urls import DELIVERY_URL
from jobs.settings import Settings
from jobs.storage.errors import ObjectExistsError, ObjectNotFoundError, StorageUnavailableError
from jobs.storage.protocol import ATTEMPT_FIELD, JOB_ID_FIELD
from jobs.storage.s3.errors import BACKEND
from jobs.storage.s3.store import S3Store

CONFLICT_TRIES = 5


class KeyTakenError(Exception):
    """Raised when another object, not of this job, has the key of a delivery."""


class SupersededError(Exception):
    """Raised when a later attempt at the same job has already delivered."""


class Delivery:
    """Delivers the files of one attempt.

    Args:
        store: the bucket of `url`.
        url: `s3://bucket/prefix/`, the request's `deliver_to`.
    """

    def __init__(self, store: S3Store, url: str, *, job_id: str, attempt: int) -> None:
        match = DELIVERY_URL.fullmatch(url)
        assert match is not None, url
        self._store, self._job_id, self._attempt = store, job_id, attempt
        self._bucket, self._folder = match["bucket"], f"{match['prefix']}{job_id}"
        self._delivered: list[str] = []

    @classmethod
    def from_settings(cls, url: str, settings: Settings, *, job_id: str, attempt: int) -> Delivery:
        """Return a delivery to a bucket on the endpoint that the settings name."""
        match = DELIVERY_URL.fullmatch(url)
        assert match is not None, url
        store = S3Store.from_settings(f"s3://{match['bucket']}", settings)
        return cls(store, url, job_id=job_id, attempt=attempt)

    def put(self, name: str, path: Path, *, content_type: str) -> str:
        """Deliver a file; return its URL, `s3://bucket/key`. A second call with the same file changes nothing.

        Raises:
            KeyTakenError: the key has an object that is not of this job; it is left unchanged.
            SupersededError: a later attempt has delivered the file.
            WriteRefusedError: this server may not write there, or the bucket does not exist.
            StorageError: the store did not accept the file.
        """
        key = f"{self._folder}/{name}"
        marker = {JOB_ID_FIELD: self._job_id, ATTEMPT_FIELD: str(self._attempt)}
        replacing: str | None = None
        for _ in range(CONFLICT_TRIES):
            self._delivered.append(key)  # before the put: if its answer is lost, the object is withdrawn too
            try:
                self._store.put_file(
                    key,
                    path,
                    content_type=content_type,
                    user_metadata=marker,
                    if_absent=replacing is None,
                    replacing=replacing,
                )
                return f"s3://{self._bucket}/{key}"
            except ObjectExistsError:
                replacing = self._etag_to_replace(key, path)
            if replacing == "":
                return f"s3://{self._bucket}/{key}"
        raise StorageUnavailableError(
            f"Could not write {key!r}: other writers changed it {CONFLICT_TRIES} times meanwhile.", BACKEND
        )

    def _etag_to_replace(self, key: str, path: Path) -> str | None:
        """Return the ETag of an earlier attempt's object, "" when it is this attempt's file, None when it is gone."""
        try:
            found = self._store.head(key)
        except ObjectNotFoundError:
            return None
        if found.user_metadata.get(JOB_ID_FIELD) != self._job_id:
            raise KeyTakenError(f"The object s3://{self._bucket}/{key} exists and is not of this job.")
        attempt = int(found.user_metadata.get(ATTEMPT_FIELD, "0"))
        if attempt > self._attempt:
            raise SupersededError(f"Attempt {attempt} has already delivered {key!r}.")
        with path.open("rb") as file:
            same = found.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
        return "" if same and attempt == self._attempt else found.etag

    def withdraw(self) -> None:
        """Delete what this object has delivered; objects of other attempts stay.

        Raises:
            StorageError: the store does not answer, or refuses.
        """
        self._remove_own(self._delivered)

    def withdraw_abandoned(self) -> int:
        """Delete what a dead process delivered for this attempt; return the number of objects.

        Only for a finished job: no attempt may write the same keys between the HEAD and the delete.

        Raises:
            StorageError: the store does not answer, or this server may not list, read or delete there.
        """
        return self._remove_own(self._store.list_keys(f"{self._folder}/"))

    def _remove_own(self, keys: Iterable[str]) -> int:
        removed = 0
        for key in dict.fromkeys(keys):
            try:
                metadata = self._store.head(key).user_metadata
            except ObjectNotFoundError:
                continue
            if (metadata.get(JOB_ID_FIELD), metadata.get(ATTEMPT_FIELD)) == (self._job_id, str(self._attempt)):
                self._store.delete([key])
                removed += 1
        return removed
