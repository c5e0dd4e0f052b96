"""Compares uploads with their objects, one range of uploads at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from sqlalchemy import select

from jobs.db.database import Database
from jobs.db.tables import Upload
from jobs.doctor.brake import Population
from jobs.doctor.finding import Action, Finding, Kind
from jobs.doctor.listing import OwnerRange
from jobs.doctor.stored_objects import StoredObjects
from jobs.storage.presence import object_exists
from jobs.storage.protocol import ObjectStore

PAGE = 500


class UploadObjects:
    """Finds uploads without objects, and objects without uploads."""

    def __init__(self, db: Database, store: ObjectStore, objects: StoredObjects, examined: Counter[Population]) -> None:
        self._db, self._store, self._objects, self._examined = db, store, objects, examined

    def compare(self, part: OwnerRange) -> Iterator[Finding]:
        """Yield the inconsistencies of the uploads of a range."""
        with self._db.reading() as tx:
            rows = {row.id: row for row in tx.session.scalars(select(Upload).where(Upload.id.in_(part.ids)))}
        for owner in part.owners:
            self._examined[Population.OBJECTS] += len(owner.keys)
            for key in owner.keys:
                row = rows.get(owner.id)
                if row is None:
                    reason = "no upload of this database has its id"
                    yield from self._objects.unknown(key, reason, owner_id=owner.id, made_by=None)
                elif row.deleted_at is not None and key == row.storage_key:
                    yield from self._still_stored(row)
        yield from self._missing(part)

    def _still_stored(self, row: Upload) -> Iterator[Finding]:
        found = self._objects.head(row.storage_key)
        if found is None:
            return  # retention has deleted it since the store was listed
        action = Action.CLEAR_DELETED if found.size_bytes == row.size_bytes else Action.KEEP
        detail = f"the row says that it was deleted at {row.deleted_at:%Y-%m-%d %H:%M}, but {row.storage_key} exists"
        if action is Action.KEEP:
            detail += f"; its {found.size_bytes} bytes are not the announced {row.size_bytes}, so both are kept"
        yield Finding(Kind.UPLOAD_STILL_STORED, row.id, detail, action, row.id, row.storage_key)

    def _missing(self, part: OwnerRange) -> Iterator[Finding]:
        listed = part.keys
        for row in self._live_rows(part):
            self._examined[Population.UPLOADS] += 1
            if row.storage_key not in listed and not object_exists(self._store, row.storage_key):
                detail = f"{row.storage_key} does not exist"
                yield Finding(Kind.UPLOAD_MISSING, row.id, detail, Action.MARK_DELETED, row.id, row.storage_key)

    def _live_rows(self, part: OwnerRange) -> Iterator[Upload]:
        """Return the checked uploads whose object must exist; retention may be deleting those that have expired."""
        after = part.after
        while True:
            with self._db.reading() as tx:
                query = select(Upload).where(
                    part.contains(Upload.id),
                    Upload.id > after,
                    Upload.deleted_at.is_(None),
                    Upload.checked_at.is_not(None),
                    Upload.expires_at > tx.now,
                )
                page = list(tx.session.scalars(query.order_by(Upload.id).limit(PAGE)))
            yield from page
            if len(page) < PAGE:
                return
            after = page[-1].id
