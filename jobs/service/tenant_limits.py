"""Limits of what a tenant may store and have. What is summed comes from indexes of the tenant's live rows alone."""

from __future__ import annotations

from sqlalchemy import func, select

from jobs.db.database import Transaction
from jobs.db.tables import Artifact, Trigger, Upload
from jobs.errors import ResultStorageFullError, TriggerLimitError, UploadNeverFitsError, UploadStorageFullError

_RESULT_BYTES = "stored_result_bytes"


def stored_upload_bytes(tx: Transaction) -> int:
    """Return the bytes of the tenant's uploads, including those that were announced only, without deleted ones."""
    live = (Upload.deleted_at.is_(None), Upload.delete_requested_at.is_(None))
    query = select(func.sum(Upload.size_bytes)).where(Upload.tenant == tx.tenant, *live)
    return int(tx.session.scalar(query) or 0)


def stored_result_bytes(tx: Transaction) -> int:
    """Return the bytes of the tenant's stored results."""
    query = select(func.sum(Artifact.size_bytes)).where(Artifact.tenant == tx.tenant, Artifact.deleted_at.is_(None))
    return int(tx.session.scalar(query) or 0)


def trigger_count(tx: Transaction) -> int:
    """Return how many triggers the tenant has."""
    return int(tx.session.scalar(select(func.count()).select_from(Trigger).where(Trigger.tenant == tx.tenant)) or 0)


def check_upload_bytes(tx: Transaction, size_bytes: int, limit: int, *, counted_bytes: int = 0) -> None:
    """Check that the tenant may announce an upload, or keep what came for one.

    Args:
        limit: bytes of all its uploads; 0: no limit.
        counted_bytes: with which this upload has been announced already.

    Raises:
        UploadNeverFitsError: the upload alone has more bytes.
        UploadStorageFullError: it has more with the others.
    """
    if not limit:
        return
    if size_bytes > limit:
        raise UploadNeverFitsError(f"Got {size_bytes} bytes; all your uploads together may have {limit}.", limit)
    held = stored_upload_bytes(tx) - counted_bytes
    if held + size_bytes > limit:
        raise UploadStorageFullError(
            f"Your uploads have {held} bytes; with {size_bytes} more they would have more than the {limit} allowed. "
            "Wait until some expire, or delete some.",
            limit,
        )


def check_stored_results(tx: Transaction, limit: int) -> None:
    """Check that the tenant may have further results; one sum serves all submits of a transaction.

    Args:
        limit: bytes of its stored results; 0: no limit.

    Raises:
        ResultStorageFullError: they have reached it.
    """
    if not limit:
        return
    known: dict[str, int] = tx.session.info.setdefault(_RESULT_BYTES, {})
    tenant = tx.tenant
    if tenant not in known:
        known[tenant] = stored_result_bytes(tx)
    if known[tenant] >= limit:
        raise ResultStorageFullError(
            f"Your stored results have {known[tenant]} bytes, at most {limit} are allowed; wait until some expire, or "
            "delete some jobs.",
            limit,
        )


def check_trigger_count(tx: Transaction, limit: int) -> None:
    """Check that the tenant may have one more trigger.

    Args:
        limit: 0: no limit.

    Raises:
        TriggerLimitError: it has as many as allowed.
    """
    if limit and trigger_count(tx) >= limit:
        raise TriggerLimitError(f"You have {limit} triggers, as many as allowed; delete one first.", limit)
