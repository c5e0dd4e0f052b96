"""Objects that no row points at: which are old enough to be judged, and whether they are provably of this platform."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from jobs.doctor.finding import Action, Finding, Kind
from jobs.storage.errors import InvalidKeyError, ObjectNotFoundError
from jobs.storage.presence import object_exists
from jobs.storage.protocol import JOB_ID_FIELD, ObjectMetadata, ObjectStore


class StoredObjects:
    """Looks at single objects.

    Args:
        now: the database's time.
        grace_s: skip objects younger than this; their rows may not be committed yet.
        delete_unknown: delete objects of which this database knows nothing, where they are provably a platform's.
    """

    def __init__(self, store: ObjectStore, *, now: datetime, grace_s: float, delete_unknown: bool) -> None:
        self._store, self._before = store, now - timedelta(seconds=grace_s)
        self._delete_unknown = delete_unknown

    def head(self, key: str) -> ObjectMetadata | None:
        """Return an object's metadata; None when it does not exist any more.

        Raises:
            StorageError: it exists and cannot be read, or the store does not answer.
        """
        try:
            return self._store.head(key)
        except ObjectNotFoundError:
            if object_exists(self._store, key):
                raise
            return None

    def orphaned(self, key: str, reason: str, *, owner_id: str) -> Iterator[Finding]:
        """Yield the finding for an object of an unsuccessful attempt, if it is old enough."""
        found = self.head(key)
        if found is not None and found.last_modified < self._before:
            detail = f"{_described(found)}, {reason}"
            yield Finding(Kind.OBJECT_ORPHANED, key, detail, Action.DELETE_OBJECT, owner_id, key)

    def unknown(self, key: str, reason: str, *, owner_id: str, made_by: str | None) -> Iterator[Finding]:
        """Yield the finding for an object of which this database knows nothing, if it is old enough.

        Args:
            made_by: the job that its metadata must name for it to count as a platform's own; None: objects of its kind
                name none; "": it is never deleted.
        """
        found = self.head(key)
        if found is None or found.last_modified >= self._before:
            return
        ours = made_by is None or (made_by != "" and found.user_metadata.get(JOB_ID_FIELD) == made_by)
        action = Action.DELETE_OBJECT if self._delete_unknown and ours else Action.KEEP
        detail = f"{_described(found)}, {reason}; it is kept"
        if ours:
            detail = f"{_described(found)}, {reason}; only --fix --delete-unknown deletes it"
        yield Finding(Kind.OBJECT_UNKNOWN, key, detail, action, owner_id, key)

    def foreign(self, key: str) -> Iterator[Finding]:
        """Yield the finding for an object whose key this platform would never write."""
        try:
            found = self.head(key)
        except InvalidKeyError:  # such as the empty objects by which other programs mark folders
            found = None
        written = f"{_described(found)}, " if found is not None else ""
        detail = f"{written}not a key of this platform; it is kept"
        yield Finding(Kind.OBJECT_UNKNOWN, key, detail, Action.KEEP, "", key)


def _described(found: ObjectMetadata) -> str:
    return f"{found.size_bytes} bytes, written {found.last_modified:%Y-%m-%d %H:%M}"
