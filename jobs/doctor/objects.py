"""Compares rows with stored objects. Both are read in key order and in ranges, so neither is ever whole in memory."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator

from jobs.db.database import Database
from jobs.doctor.brake import Population
from jobs.doctor.finding import Finding
from jobs.doctor.job_objects import JobObjects
from jobs.doctor.listing import JOB_KEY, UPLOAD_KEY, OwnerRange, owner_ranges
from jobs.doctor.stored_objects import StoredObjects
from jobs.doctor.upload_objects import UploadObjects
from jobs.storage.protocol import ObjectStore

RANGE = 200


class ObjectsCheck:
    """Finds artifacts and uploads without objects, and objects without rows.

    Args:
        grace_s: skip objects younger than this; their row may not be committed yet.
        delete_unknown: propose to delete objects of which this database knows nothing.
        examined: counts what was looked at.
    """

    def __init__(
        self,
        db: Database,
        store: ObjectStore,
        *,
        grace_s: float,
        delete_unknown: bool = False,
        examined: Counter[Population] | None = None,
    ) -> None:
        self._db, self._store, self._grace_s, self._delete_unknown = db, store, grace_s, delete_unknown
        self._examined = examined if examined is not None else Counter()

    def run(self) -> Iterator[Finding]:
        """Yield the inconsistencies between rows and objects.

        Raises:
            StorageError, SQLAlchemyError: the check could not be finished.
        """
        with self._db.reading() as tx:
            now = tx.now
        objects = StoredObjects(self._store, now=now, grace_s=self._grace_s, delete_unknown=self._delete_unknown)
        jobs = JobObjects(self._db, self._store, objects, self._examined)
        uploads = UploadObjects(self._db, self._store, objects, self._examined)
        yield from self._compare("jobs/", JOB_KEY, jobs.compare, objects)
        yield from self._compare("uploads/", UPLOAD_KEY, uploads.compare, objects)

    def _compare(
        self,
        area: str,
        pattern: re.Pattern[str],
        compare: Callable[[OwnerRange], Iterator[Finding]],
        objects: StoredObjects,
    ) -> Iterator[Finding]:
        for part in owner_ranges(self._store.list_keys(area), pattern, RANGE):
            if isinstance(part, str):
                self._examined[Population.OBJECTS] += 1
                yield from objects.foreign(part)
            else:
                yield from compare(part)
