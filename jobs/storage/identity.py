"""Ties a store to its database: a marker object names the platform's id, and a row of the database has the same.

So a wrong bucket, prefix, folder or database is noticed before anything is deleted or marked because "it is missing".
The row's id is made at first use. The marker is written when a process first finds both without a tie: into an empty
store, or into one that holds the objects of a sample of the database's rows (an installation from before the marker).
"""

from __future__ import annotations

import contextlib
import json
import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import islice
from pathlib import Path

from sqlalchemy import ColumnElement, select, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import InstrumentedAttribute

from jobs.db.database import Database, Transaction
from jobs.db.faults import is_disk_full
from jobs.db.tables import Artifact, Job, PlatformIdentity, Upload
from jobs.db.upsert import insert_or_ignore
from jobs.ids import new_id
from jobs.settings_values import mask_url
from jobs.storage.errors import (
    ObjectExistsError,
    ObjectForbiddenError,
    ObjectNotFoundError,
    StorageError,
    StorageFullError,
    StorageUnavailableError,
)
from jobs.storage.presence import object_exists
from jobs.storage.protocol import MARKER_KEY, ObjectStore

log = logging.getLogger(__name__)

MAX_MARKER_BYTES = 64 * 1024
# Rows of a sample: so many that expire first and so many that expire last, of artifacts and of uploads.
SAMPLE_SIDE = 5
# An untied store without rows is taken over when these first objects are all of jobs and uploads that have a row.
FIRST_OBJECTS = 20


class StoreMismatchError(StorageError):
    """Raised when the store is not that of the database; nothing may be deleted from it or marked as missing."""

    summary = "is not the store of this database"


class Tie(StrEnum):
    """How a store and a database belong together."""

    MATCHES = "matches"
    """The marker names the database."""
    CLAIMABLE = "claimable"
    """The store has no marker and is empty, or holds the objects of the database's rows: the marker may be written."""
    UNDECIDED = "undecided"
    """The store has no marker, the database no rows to look for, and the store has objects of others."""
    MISMATCH = "mismatch"
    """The marker names another database; or it is absent and so are the objects of the database's rows."""


@dataclass(frozen=True)
class Identity:
    """What was found out about a store and a database.

    Attributes:
        platform_id: the database's; None while it has no row.
        marker_id: the platform that the store's marker names; None: it has no marker.
        sample: how many rows were looked for in the store. Only without a matching marker.
        found: how many of them have their object there.
        reason: one sentence, for MISMATCH and UNDECIDED.
        was_bound: the database has recorded that a store's marker names it. Only for MATCHES.
    """

    tie: Tie
    platform_id: str | None
    marker_id: str | None = None
    sample: int = 0
    found: int = 0
    reason: str = ""
    was_bound: bool = False


def check_identity(db: Database, store: ObjectStore) -> None:
    """Check that a store is that of the database, and write its marker where it has none and may get one.

    Costs one small read of the store and one row; more only while the store has no marker.

    Raises:
        StoreMismatchError: it is another platform's, or an empty one in the place of ours.
        StorageError: the store does not answer.
        DBAPIError: the database does not answer.
    """
    identity = examine_identity(db, store)
    if identity.tie is Tie.MISMATCH:
        raise StoreMismatchError(identity.reason, store.backend)
    if identity.tie is Tie.CLAIMABLE:
        _claim_if_there_is_room(db, store)
    elif identity.tie is Tie.MATCHES and not identity.was_bound:
        _note_bound(db)  # the process that wrote the marker has died before it did so


def _claim_if_there_is_room(db: Database, store: ObjectStore) -> None:
    """Write the marker unless a disk is full: retention, which frees space, must not need a write first."""
    try:
        claim_store(db, store)
    except StorageFullError as exc:
        log.debug("the marker is written later: %s", exc)
    except DBAPIError as exc:
        if not is_disk_full(exc):
            raise


def examine_identity(db: Database, store: ObjectStore) -> Identity:
    """Find out whether a store is that of the database; changes nothing; raises what `check_identity` raises."""
    with db.reading() as tx:
        row = tx.session.get(PlatformIdentity, 1)
    platform_id, was_bound = (row.platform_id, row.bound_at is not None) if row is not None else (None, False)
    marker_id = _read_marker(store)
    if marker_id is not None and marker_id == platform_id:
        return Identity(Tie.MATCHES, platform_id, marker_id, was_bound=was_bound)
    keys = db.run_reading(_sample_keys)
    found = sum(object_exists(store, key) for key in keys)
    database = mask_url(db.url.render_as_string(hide_password=True))
    reason = f"{store.location} is not the store of the database {database}: "
    if marker_id is not None:
        tie = Tie.MISMATCH
        reason += f"its {MARKER_KEY} names {marker_id}, the database is {platform_id or 'new'}."
    elif keys:
        tie = Tie.CLAIMABLE if 2 * found >= len(keys) else Tie.MISMATCH
        reason += f"it has no {MARKER_KEY}, and the objects of {found} of {len(keys)} rows that were looked for."
    elif was_bound:
        tie = Tie.MISMATCH
        reason += f"it has no {MARKER_KEY}, but the database has had a store with one."
    else:
        tie = Tie.UNDECIDED if _has_foreign_objects(db, store) else Tie.CLAIMABLE
        reason = (
            f"{store.location} has no {MARKER_KEY} and holds objects of which the database {database} knows nothing."
        )
    reason += " Check MMAUDIO_STORAGE_URL, MMAUDIO_S3_ENDPOINT_URL and MMAUDIO_DATABASE_URL; if all are right, run "
    reason += "`mmaudio doctor --adopt`."
    return Identity(tie, platform_id, marker_id, len(keys), found, "" if tie is Tie.CLAIMABLE else reason)


def claim_store(db: Database, store: ObjectStore, *, replace: bool = False) -> None:
    """Write the marker that ties a store to the database.

    Args:
        replace: overwrite another platform's marker.

    Raises:
        StoreMismatchError: another platform was faster.
        StorageError: the store did not take it.
    """
    row = db.run(_identity_row, repeatable=True)
    document = {
        "platform_id": row.platform_id,
        "database": mask_url(db.url.render_as_string(hide_password=True)),
        "store": store.location,
        "created_at": row.created_at.isoformat(),
        "note": "Written by mmaudio-platform; `mmaudio doctor` compares it. Never delete it or let it expire.",
    }
    with tempfile.TemporaryDirectory(prefix="mmaudio-marker-") as folder, contextlib.suppress(ObjectExistsError):
        path = Path(folder) / MARKER_KEY
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")
        store.put_file(MARKER_KEY, path, content_type="application/json", if_absent=not replace)
        log.info("%s is now the store of platform %s", store.location, row.platform_id)
    written = _read_marker(store)
    if written != row.platform_id:
        raise StoreMismatchError(
            f"{store.location} got the marker of platform {written} meanwhile; this is {row.platform_id}.",
            store.backend,
        )
    _note_bound(db)


def _identity_row(tx: Transaction) -> PlatformIdentity:
    insert_or_ignore(
        tx.session, PlatformIdentity, {"id": 1, "platform_id": new_id("plt"), "created_at": tx.now, "bound_at": None}
    )
    return tx.session.get_one(PlatformIdentity, 1)


def _note_bound(db: Database) -> None:
    bind = update(PlatformIdentity).where(PlatformIdentity.bound_at.is_(None))
    db.run(lambda tx: tx.session.execute(bind.values(bound_at=tx.now)), repeatable=True)


def _read_marker(store: ObjectStore) -> str | None:
    """Return the id that the store's marker names; None: it has no marker.

    Raises:
        StorageUnavailableError: it cannot be read, or is damaged.
    """
    try:
        content = b"".join(store.open_read(MARKER_KEY, end=MAX_MARKER_BYTES))
    except (ObjectNotFoundError, ObjectForbiddenError) as exc:
        if not object_exists(store, MARKER_KEY):
            return None
        raise StorageUnavailableError(f"{MARKER_KEY} in {store.location} cannot be read: {exc}", store.backend) from exc
    try:
        return str(json.loads(content)["platform_id"])
    except (ValueError, KeyError, TypeError) as exc:
        raise StorageUnavailableError(
            f"{MARKER_KEY} in {store.location} is damaged; delete it and run `mmaudio doctor --adopt`.", store.backend
        ) from exc


def _sample_keys(tx: Transaction) -> list[str]:
    """Return the keys of some rows whose objects must exist: those that expire first, and those that expire last."""
    keys: dict[str, None] = {}
    artifacts = _ends(tx, Artifact.storage_key, Artifact.expires_at, Artifact.deleted_at.is_(None))
    uploads = _ends(
        tx, Upload.storage_key, Upload.expires_at, Upload.deleted_at.is_(None) & Upload.checked_at.is_not(None)
    )
    keys.update(dict.fromkeys([*artifacts, *uploads]))
    return list(keys)


def _ends(
    tx: Transaction,
    key: InstrumentedAttribute[str],
    expires_at: InstrumentedAttribute[datetime] | InstrumentedAttribute[datetime | None],
    live: ColumnElement[bool],
) -> Iterator[str]:
    # Not what has expired: retention may have deleted it and died before it marked the rows.
    query = select(key).where(live, expires_at > tx.now).limit(SAMPLE_SIDE)
    for order in (expires_at.asc(), expires_at.desc()):
        yield from tx.session.scalars(query.order_by(order))


def _has_foreign_objects(db: Database, store: ObjectStore) -> bool:
    """Return whether one of the first objects of the store is of a job or upload that has no row."""
    with db.reading() as tx:
        for area, owner_id in (("jobs/", Job.id), ("uploads/", Upload.id)):
            owners = {key.split("/")[1] for key in islice(store.list_keys(area), FIRST_OBJECTS)}
            known = set(tx.session.scalars(select(owner_id).where(owner_id.in_(owners))))
            if owners - known:
                return True
    return False
