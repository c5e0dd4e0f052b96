"""Files for a caller's own bucket: `s3://bucket/prefix/<job id>/<name>`, each published once, whatever dies meanwhile.

Every object carries its job and attempt in its metadata. Attempts at one job use the same names, so what an earlier
attempt left is replaced and nothing is there twice; a write that comes too late, from an attempt that is no longer the
latest, finds another ETag than it has seen and changes nothing (docs/adr/0009).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from pathlib import Path

from jobs.request import DELIVERY_URL
from jobs.settings import Settings
from jobs.storage.errors import ObjectExistsError, ObjectNotFoundError, StorageUnavailableError
from jobs.storage.protocol import JOB_ID_FIELD
from jobs.storage.s3.errors import BACKEND
from jobs.storage.s3.store import S3Store

ATTEMPT_FIELD = "mmaudio-attempt"
CONFLICT_TRIES = 5


class KeyTakenError(Exception):
    """Raised when an object that is not this job's has the name that a delivery needs."""


class SupersededError(Exception):
    """Raised when a later attempt at the same job has delivered already."""


class Delivery:
    """Delivers the files of one attempt.

    Args:
        url: `s3://bucket/prefix/`, as the request says.
    """

    def __init__(self, store: S3Store, url: str, *, job_id: str, attempt: int) -> None:
        match = DELIVERY_URL.fullmatch(url)
        assert match is not None, url
        self._store, self._job_id, self._attempt = store, job_id, attempt
        self._bucket, self._folder = match["bucket"], f"{match['prefix']}{job_id}"
        self._delivered: list[str] = []

    @classmethod
    def to(cls, url: str, settings: Settings, *, job_id: str, attempt: int) -> Delivery:
        """Return the delivery to a bucket on the endpoint that the settings name."""
        match = DELIVERY_URL.fullmatch(url)
        assert match is not None, url
        store = S3Store.from_settings(f"s3://{match['bucket']}", settings)
        return cls(store, url, job_id=job_id, attempt=attempt)

    def put(self, name: str, path: Path, *, content_type: str) -> str:
        """Deliver a file; return its URL, `s3://bucket/key`. A second call with the same file changes nothing.

        Raises:
            KeyTakenError: the name belongs to somebody else; their object is as it was.
            SupersededError: a later attempt has delivered it.
            WriteRefusedError: this server may not write there, or there is no such bucket.
            StorageError: the store did not take it.
        """
        key = f"{self._folder}/{name}"
        marker = {JOB_ID_FIELD: self._job_id, ATTEMPT_FIELD: str(self._attempt)}
        replacing: str | None = None
        for _ in range(CONFLICT_TRIES):
            self._delivered.append(key)  # before: a put whose answer is lost is withdrawn as well
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
        raise StorageUnavailableError(f"Others keep writing {key!r}.", BACKEND)

    def _etag_to_replace(self, key: str, path: Path) -> str | None:
        """Return the ETag of what an earlier attempt left, "" when it is this very file, None when it is gone again."""
        try:
            found = self._store.head(key)
        except ObjectNotFoundError:
            return None
        if found.user_metadata.get(JOB_ID_FIELD) != self._job_id:
            raise KeyTakenError(f"The object s3://{self._bucket}/{key} is there and is not of this job.")
        attempt = int(found.user_metadata.get(ATTEMPT_FIELD, "0"))
        if attempt > self._attempt:
            raise SupersededError(f"Attempt {attempt} has delivered {key!r} already.")
        with path.open("rb") as file:
            same = found.sha256 == hashlib.file_digest(file, "sha256").hexdigest()
        return "" if same and attempt == self._attempt else found.etag

    def withdraw(self) -> None:
        """Remove what this attempt has delivered, because the job will not point at it; others' objects stay.

        Raises:
            StorageError: the store does not answer, or does not let this server delete.
        """
        self._remove_own(self._delivered)

    def withdraw_left(self) -> int:
        """Remove what this attempt has delivered in a process that is dead; return how many objects that were.

        Only for a job that has ended: nobody may be writing to the same names between the look and the removal.

        Raises:
            StorageError: as `withdraw`, or this server may not list there.
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
