"""What can go wrong with stored files. Backends turn their vendor's errors into these, `from` the original."""

from __future__ import annotations

from typing import ClassVar


class StorageError(Exception):
    """Base: names the backend; the class says whether a retry may help."""

    retryable: ClassVar[bool] = False

    def __init__(self, message: str, backend: str) -> None:
        super().__init__(message)
        self.backend = backend


class ObjectNotFoundError(StorageError):
    """Raised when there is no object of that key, or this server may not read it."""


class ObjectForbiddenError(StorageError):
    """Raised when this server may not look; S3 also says so of a missing key to callers who may not list."""


class ObjectChangedError(StorageError):
    """Raised when the object is no longer the version that was asked for."""


class ObjectExistsError(StorageError):
    """Raised when an exclusive write finds the key taken."""


class WriteRefusedError(StorageError):
    """Raised when this server may not write there, or there is no such bucket."""


class ObjectTooLargeError(StorageError):
    """Raised as soon as more bytes come than are allowed; nothing is kept."""


class ChecksumMismatchError(StorageError):
    """Raised when the bytes are not those that were announced; nothing is kept."""


class InvalidKeyError(StorageError):
    """Raised for a key that could leave the store's folder."""


class StorageUnavailableError(StorageError):
    """Raised when the store does not answer or answers with a fault of its own."""

    retryable = True


class StorageFullError(StorageError):
    """Raised when there is no room; somebody has to make some."""

    retryable = True
