"""Ties a store to the database at an operator's request: `mmaudio doctor --adopt`."""

from __future__ import annotations

from jobs.db.database import Database
from jobs.service.audit import begin_audited, end_audited
from jobs.storage.errors import StorageError
from jobs.storage.identity import Identity, Tie, claim_store
from jobs.storage.protocol import ObjectStore


class AdoptionRefusedError(Exception):
    """Raised when a store does not look like that of the database."""


def check_adoptable(identity: Identity, store: ObjectStore, *, forced: bool) -> None:
    """Check that a store may be tied to the database.

    Args:
        forced: the operator insists, for example because all objects are lost.

    Raises:
        AdoptionRefusedError: none of the objects of a sample of rows is there, or another platform's marker is, and
            there are no rows to prove the contrary.
    """
    if forced or identity.tie is Tie.MATCHES or identity.found:
        return
    if identity.sample:
        raise AdoptionRefusedError(
            f"{store.location} has none of the objects of {identity.sample} rows that were looked for; if it is the "
            "right store nevertheless, add --yes-all."
        )
    if identity.marker_id is not None:
        raise AdoptionRefusedError(
            f"{store.location} is the store of platform {identity.marker_id}, and this database has no rows that prove "
            "the contrary; to take it from that platform, add --yes-all."
        )


def adopt(db: Database, store: ObjectStore, identity: Identity, *, actor: str) -> None:
    """Write the marker into a store, audited.

    Raises:
        StorageError: the store did not take it.
        DBAPIError: the database does not answer.
    """
    detail = {
        "reason": identity.reason,
        "replaced": identity.marker_id,
        "sample": identity.sample,
        "found": identity.found,
    }
    event_id = db.run(
        lambda tx: begin_audited(tx, actor=actor, action="adopt_store", subject=store.location, detail=detail),
        repeatable=False,
    )
    try:
        claim_store(db, store, replace=identity.marker_id is not None)
    except StorageError as exc:
        error = str(exc)
        db.run(lambda tx: end_audited(tx, event_id, "failed", error=error), repeatable=True)
        raise
    db.run(lambda tx: end_audited(tx, event_id, "fixed"), repeatable=True)
