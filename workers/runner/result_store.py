"""Stores the files of a finished attempt in the platform's store; a step that may be repeated after any trouble."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from jobs.errors import DiskFullError, InfrastructureError, StorageFailedError, StorageRefusedError
from jobs.service.attempts import NewArtifact
from jobs.storage.errors import (
    ObjectExistsError,
    ObjectForbiddenError,
    ServerRefusedError,
    StorageError,
    StorageFullError,
    WriteRefusedError,
)
from jobs.storage.protocol import ObjectMetadata, ObjectStore


def store_result(
    store: ObjectStore, path: Path, artifact: NewArtifact, user_metadata: Mapping[str, str]
) -> NewArtifact:
    """Store a file under the artifact's key; return the artifact with size and SHA-256.

    Raises:
        InfrastructureError: the store is in trouble.
    """
    try:
        stored = store.put_file(
            artifact.storage_key,
            path,
            content_type=artifact.content_type,
            user_metadata=user_metadata,
            if_absent=True,
        )
    except ObjectExistsError:
        stored = _stored_before(store, path, artifact)
    except StorageError as exc:
        raise _trouble(exc) from exc
    return replace(artifact, size_bytes=stored.size_bytes, sha256=stored.sha256 or "")


def _stored_before(store: ObjectStore, path: Path, artifact: NewArtifact) -> ObjectMetadata:
    """Return what an earlier try, whose answer was lost, has stored: no other attempt writes this key."""
    try:
        found = store.head(artifact.storage_key)
        with path.open("rb") as file:
            if found.sha256 == hashlib.file_digest(file, "sha256").hexdigest():
                return found
        store.delete([artifact.storage_key])
    except StorageError as exc:
        raise _trouble(exc) from exc
    raise StorageFailedError("The object store held other bytes under the key of this result; storing it again.")


def _trouble(exc: StorageError) -> InfrastructureError:
    if isinstance(exc, StorageFullError):
        return DiskFullError(f"The object store {exc.summary}; the result was not stored.")
    if isinstance(exc, WriteRefusedError | ServerRefusedError | ObjectForbiddenError):
        return StorageRefusedError(f"The object store refuses this server; the result was not stored: {exc}")
    return StorageFailedError(f"The object store {exc.summary}; the result was not stored.")
