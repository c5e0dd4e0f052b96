"""Says whether an object exists, certain enough to change or delete something because of the answer."""

from __future__ import annotations

from jobs.storage.errors import ObjectForbiddenError, ObjectNotFoundError, StorageUnavailableError
from jobs.storage.protocol import ObjectStore


def object_exists(store: ObjectStore, key: str) -> bool:
    """Return whether an object exists.

    A HEAD has no error document, and not every server and store tells a missing object from a missing bucket by it. So
    an object counts as missing only when a listing of its key succeeds and does not contain it.

    Raises:
        StorageError: the store does not answer, its bucket does not exist, or this server may not list it.
    """
    try:
        store.head(key)
    except ObjectNotFoundError:
        return _is_listed(store, key)
    return True


def _is_listed(store: ObjectStore, key: str) -> bool:
    try:
        return next(iter(store.list_keys(key)), None) == key  # the keys that begin with it sort behind it
    except (ObjectNotFoundError, ObjectForbiddenError) as exc:
        raise StorageUnavailableError(
            f"Cannot tell whether {key!r} exists in {store.location}: {exc}", store.backend
        ) from exc
