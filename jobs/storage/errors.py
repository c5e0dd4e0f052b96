"""Errors of object storage. Backends raise these `from` their vendor's errors."""

from __future__ import annotations

from typing import ClassVar

from jobs.settings_values import mask_url


class StorageError(Exception):
    """Base of all storage errors.

    Attributes:
        retryable: whether a retry may help.
        summary: completes "The object store ..." for people who may not see keys and folders.
        backend: the name of the store that raised it.
    """

    retryable: ClassVar[bool] = False
    summary: ClassVar[str] = "refused the request"

    def __init__(self, message: str, backend: str) -> None:
        super().__init__(mask_url(message))  # libraries name the endpoint, whose URL may hold a password
        self.backend = backend


class ObjectNotFoundError(StorageError):
    """Raised when no object has that key."""


class ObjectForbiddenError(StorageError):
    """Raised when this server may not read an object; without the right to list, S3 says so of missing keys too."""

    summary = "does not allow this server to read the object"


class ObjectChangedError(StorageError):
    """Raised when the object is no longer the requested version."""


class ObjectExistsError(StorageError):
    """Raised when a conditional write finds the key taken."""


class WriteRefusedError(StorageError):
    """Raised when this server may not write there, or the bucket does not exist."""


class ObjectTooLargeError(StorageError):
    """Raised when a stream or object has more bytes than allowed; nothing is stored."""


class OffsetMismatchError(StorageError):
    """Raised when bytes are to be added at another place than where a write ends.

    Attributes:
        present: bytes that are there.
    """

    def __init__(self, message: str, backend: str, present: int) -> None:
        super().__init__(message, backend)
        self.present = present


class WriteBusyError(StorageError):
    """Raised when two callers want to add bytes to one write."""

    retryable = True
    summary = "receives other bytes of the same object"


class WriteUnknownError(StorageError):
    """Raised when a write in parts does not exist: it was finished or discarded, or never begun."""


class ChecksumMismatchError(StorageError):
    """Raised when the bytes do not match their announced or stored hash; nothing is stored."""


class InvalidKeyError(StorageError):
    """Raised for a key that is empty, too long, or could escape the store's folder."""


class StorageUnavailableError(StorageError):
    """Raised when the store does not answer, or answers with an error of its own."""

    retryable = True
    summary = "did not answer"


class ServerRefusedError(StorageUnavailableError):
    """Raised when the store refuses this server as a whole: its credentials are wrong or missing, or its clock is."""

    summary = "refuses this server's credentials"


class BucketMissingError(StorageUnavailableError):
    """Raised when the bucket itself does not exist; that says nothing about a key."""

    summary = "does not have the bucket"


class ObjectFaultError(StorageUnavailableError):
    """Raised when the store answers for one object with an internal error; others may be readable."""

    summary = "has a fault with this object"


class StorageFullError(StorageError):
    """Raised when the disk or bucket is full; an operator has to free space."""

    retryable = True
    summary = "is full"
