"""Finds the key that a request carries: one read by an index, made for every request, so that a revoked key ends."""

from __future__ import annotations

import hmac
from dataclasses import dataclass

from sqlalchemy import bindparam, select

from jobs.api_keys.key_text import is_key_text, key_digest
from jobs.api_keys.scope import KeyScope, effective_scopes
from jobs.api_keys.service import LAST_USE_STEP
from jobs.db.database import Database
from jobs.db.key_tables import ApiKey

_BY_DIGEST = select(
    ApiKey.id, ApiKey.tenant, ApiKey.sha256, ApiKey.scopes, ApiKey.expires_at, ApiKey.revoked_at, ApiKey.last_used_at
).where(ApiKey.sha256 == bindparam("digest"))

_BY_ID = select(ApiKey.expires_at, ApiKey.revoked_at).where(ApiKey.id == bindparam("key_id"))


@dataclass(frozen=True)
class ValidKey:
    """A key that is valid now.

    Attributes:
        use_is_due: the time of its last use is to be written.
    """

    id: str
    tenant: str
    scopes: frozenset[KeyScope]
    use_is_due: bool


def authenticate(db: Database, text: str) -> ValidKey | None:
    """Return the key with this text; None where there is none, or it is revoked or has expired.

    Raises:
        DBAPIError: the database does not answer.
    """
    if not is_key_text(text):
        return None
    digest = key_digest(text)
    found = db.first_row(_BY_DIGEST, {"digest": digest})
    if found is None:
        return None
    row, now = found
    if not hmac.compare_digest(row.sha256, digest):
        return None
    if row.revoked_at is not None or (row.expires_at is not None and row.expires_at <= now):
        return None
    return ValidKey(
        id=row.id,
        tenant=row.tenant,
        scopes=effective_scopes(row.scopes),
        use_is_due=row.last_used_at is None or row.last_used_at <= now - LAST_USE_STEP,
    )


def is_still_valid(db: Database, key_id: str) -> bool:
    """Return whether a key that was valid still is.

    Raises:
        DBAPIError: the database does not answer.
    """
    found = db.first_row(_BY_ID, {"key_id": key_id})
    if found is None:
        return False
    row, now = found
    return row.revoked_at is None and (row.expires_at is None or row.expires_at > now)
