"""Makes, lists, rotates and revokes API keys. Its functions name the tenant: operators act for all of them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from sqlalchemy import select, update

from jobs.api_keys.key_text import key_digest, new_key_text, shown_prefix
from jobs.api_keys.scope import KeyScope, effective_scopes
from jobs.cursor import place_of
from jobs.db.database import Transaction
from jobs.db.key_tables import ApiKey
from jobs.errors import ApiKeyInactiveError, ApiKeyNotFoundError, RequestInvalidError
from jobs.ids import new_id
from jobs.service.audit import record_action

KEY_ID = re.compile(r"key_[0-9a-f]{32}")
TENANT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
MAX_PAGE = 200
MAX_GRACE_S = 30 * 86_400
LAST_USE_STEP = timedelta(seconds=60)


class KeyState(StrEnum):
    """Whether a key may be used."""

    ACTIVE = "active"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True)
class NewKey:
    """A key that was just made, and its text, which is shown once."""

    row: ApiKey
    text: str


@dataclass(frozen=True)
class KeyPage:
    """Keys, newest first, and the cursor of the next page (None: this is the last page)."""

    keys: list[ApiKey]
    next_cursor: str | None


def key_state(key: ApiKey, now: datetime) -> KeyState:
    """Return the state of a key at `now`."""
    if key.revoked_at is not None:
        return KeyState.REVOKED
    return KeyState.EXPIRED if key.expires_at is not None and key.expires_at <= now else KeyState.ACTIVE


def check_tenant_name(tenant: str) -> str:
    """Return the name of a tenant.

    Raises:
        RequestInvalidError: it has other characters than names may have.
    """
    if not TENANT_NAME.fullmatch(tenant):
        raise RequestInvalidError.of(
            "tenant",
            f"got {tenant[:80]!r}; give 1 to 64 letters, digits, dots, underscores and hyphens, no sign first",
        )
    return tenant


def create_key(
    tx: Transaction,
    *,
    tenant: str,
    name: str,
    scopes: Iterable[KeyScope],
    expires_at: datetime | None,
    actor: str,
) -> NewKey:
    """Make a key.

    Args:
        expires_at: when it stops being valid; None: never.
        actor: who makes it, for the audit.

    Raises:
        RequestInvalidError: there are no scopes, the tenant's name is not allowed, or the time has passed.
    """
    names = sorted(set(scopes))
    if not names:
        raise RequestInvalidError.of("scopes", f"give at least one of {', '.join(KeyScope)}")
    if expires_at is not None and expires_at <= tx.now:
        raise RequestInvalidError.of("expires_at", f"got {expires_at.isoformat()}, which has passed; give a later time")
    text = new_key_text()
    row = ApiKey(
        id=new_id("key"),
        tenant=check_tenant_name(tenant),
        name=name,
        prefix=shown_prefix(text),
        sha256=key_digest(text),
        scopes=[str(one) for one in names],
        created_at=tx.now,
        expires_at=expires_at,
    )
    tx.session.add(row)
    tx.session.flush()
    record_action(tx, actor, "key.create", row.id, tenant=tenant, name=name, scopes=row.scopes)
    return NewKey(row, text)


def list_keys(
    tx: Transaction, *, tenant: str | None, cursor: str | None = None, limit: int = MAX_PAGE, active: bool = False
) -> KeyPage:
    """Return a page of keys, newest first; of all tenants where `tenant` is None.

    Args:
        active: leave out keys that are revoked or have expired.

    Raises:
        InvalidCursorError: the cursor was not issued by this function.
    """
    query = select(ApiKey)
    if tenant is not None:
        query = query.where(ApiKey.tenant == tenant)
    if active:
        query = query.where(ApiKey.revoked_at.is_(None), ApiKey.expires_at.is_(None) | (ApiKey.expires_at > tx.now))
    if cursor is not None:
        query = query.where(ApiKey.id < place_of(cursor, KEY_ID))
    limit = min(max(limit, 1), MAX_PAGE)
    rows = list(tx.session.scalars(query.order_by(ApiKey.id.desc()).limit(limit + 1)))
    return KeyPage(rows[:limit], rows[limit - 1].id if len(rows) > limit else None)


def get_key(tx: Transaction, key_id: str, *, tenant: str | None) -> ApiKey:
    """Return a key of a tenant; of any where `tenant` is None.

    Raises:
        ApiKeyNotFoundError: there is none of this id.
    """
    return _found(tx.session.get(ApiKey, key_id), key_id, tenant)


def _found(row: ApiKey | None, key_id: str, tenant: str | None) -> ApiKey:
    if row is None or tenant not in {None, row.tenant}:
        raise ApiKeyNotFoundError(f"There is no API key {key_id}.")
    return row


def revoke_key(tx: Transaction, key_id: str, *, tenant: str | None, actor: str) -> ApiKey:
    """Revoke a key: from the commit on, every process refuses it. Idempotent.

    Raises:
        ApiKeyNotFoundError: as `get_key`.
    """
    row = get_key(tx, key_id, tenant=tenant)
    if row.revoked_at is None:
        row.revoked_at = tx.now
        record_action(tx, actor, "key.revoke", row.id, tenant=row.tenant, name=row.name)
    return row


def rotate_key(tx: Transaction, key_id: str, *, tenant: str | None, grace_s: float, actor: str) -> NewKey:
    """Make a key with the name, scopes and lifetime of another one, and end that one.

    Args:
        grace_s: how long the old key stays valid, up to `MAX_GRACE_S`; 0: it is revoked at once.

    Raises:
        ApiKeyNotFoundError: as `get_key`.
        ApiKeyInactiveError: the old key is not valid any more.
        RequestInvalidError: the grace is not allowed.
    """
    if not 0 <= grace_s <= MAX_GRACE_S:
        raise RequestInvalidError.of("grace_s", f"got {grace_s:g}; give 0 to {MAX_GRACE_S} seconds")
    # Of two rotations at once, the second finds the key replaced.
    old = _found(tx.session.get(ApiKey, key_id, with_for_update=True), key_id, tenant)
    if (state := key_state(old, tx.now)) is not KeyState.ACTIVE:
        raise ApiKeyInactiveError(f"The key {key_id} is {state}; create a new one instead.")
    if old.replaced_by is not None:
        raise ApiKeyInactiveError(f"The key {key_id} has been replaced by {old.replaced_by}; rotate that one.")
    lifetime = old.expires_at - old.created_at if old.expires_at is not None else None
    new = create_key(
        tx,
        tenant=old.tenant,
        name=old.name,
        scopes=effective_scopes(old.scopes) & {KeyScope(one) for one in old.scopes},
        expires_at=tx.now + lifetime if lifetime is not None else None,
        actor=actor,
    )
    old.replaced_by = new.row.id
    if grace_s == 0:
        old.revoked_at = tx.now
    else:
        ends_at = tx.now + timedelta(seconds=grace_s)
        old.expires_at = min(old.expires_at or ends_at, ends_at)
    record_action(tx, actor, "key.rotate", old.id, tenant=old.tenant, replaced_by=new.row.id, grace_s=grace_s)
    return new


def has_admin_key(tx: Transaction) -> bool:
    """Return whether a key with the scope `admin` is valid now."""
    query = select(ApiKey.scopes).where(
        ApiKey.revoked_at.is_(None), ApiKey.expires_at.is_(None) | (ApiKey.expires_at > tx.now)
    )
    return any(KeyScope.ADMIN in scopes for scopes in tx.session.scalars(query))


def note_use(tx: Transaction, key_ids: Collection[str]) -> None:
    """Set the time of last use of keys, unless it was set less than a minute ago."""
    tx.session.execute(
        update(ApiKey)
        .where(
            ApiKey.id.in_(key_ids),
            ApiKey.last_used_at.is_(None) | (ApiKey.last_used_at <= tx.now - LAST_USE_STEP),
        )
        .values(last_used_at=tx.now)
        .execution_options(synchronize_session=False)
    )
