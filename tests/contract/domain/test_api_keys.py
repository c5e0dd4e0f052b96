"""API keys on both databases: made, found, rotated, revoked; and their lists."""

from __future__ import annotations

import hashlib
import re
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from jobs.api_keys.authentication import authenticate
from jobs.api_keys.first_key import FILE_NAME, kept_key, make_first_key
from jobs.api_keys.scope import ALL_SCOPES, KeyScope
from jobs.api_keys.service import (
    KeyState,
    NewKey,
    create_key,
    get_key,
    has_admin_key,
    key_state,
    list_keys,
    note_use,
    revoke_key,
    rotate_key,
)
from jobs.db.database import Database
from jobs.errors import ApiKeyInactiveError, ApiKeyNotFoundError, RequestInvalidError
from jobs.service.audit import list_audit
from tests.conftest import FakeClock

READ = KeyScope.JOBS_READ


def made(db: Database, tenant: str = "studio", *, ttl_s: float | None = None, scope: KeyScope = READ) -> NewKey:
    with db.of_platform().transaction() as tx:
        expires_at = tx.now + timedelta(seconds=ttl_s) if ttl_s is not None else None
        return create_key(tx, tenant=tenant, name="a name", scopes=[scope], expires_at=expires_at, actor="test")


def test_a_key_is_found_by_its_text_and_only_its_hash_is_stored(db: Database) -> None:
    new = made(db)
    assert re.fullmatch(r"mma_[0-9A-Za-z]{43}", new.text)
    found = authenticate(db, new.text)
    assert found is not None
    assert (found.id, found.tenant, found.scopes) == (new.row.id, "studio", {READ})
    assert new.row.sha256 == hashlib.sha256(new.text.encode()).hexdigest()
    with db.engine.connect() as connection:
        stored = repr(connection.execute(text("SELECT * FROM api_keys")).all())
    assert new.text not in stored
    assert new.text[:10] in stored


def test_an_admin_key_allows_everything(db: Database) -> None:
    found = authenticate(db, made(db, scope=KeyScope.ADMIN).text)
    assert found is not None
    assert found.scopes == ALL_SCOPES


def test_a_revoked_key_is_not_found(db: Database) -> None:
    new = made(db)
    with db.of_platform().transaction() as tx:
        revoke_key(tx, new.row.id, tenant="studio", actor="test")
    assert authenticate(db, new.text) is None
    with db.of_platform().transaction() as tx:
        first = get_key(tx, new.row.id, tenant=None).revoked_at
        assert revoke_key(tx, new.row.id, tenant="studio", actor="test").revoked_at == first


def test_a_key_ends_when_it_expires(db: Database, clock: FakeClock) -> None:
    new = made(db, ttl_s=60)
    assert authenticate(db, new.text) is not None
    clock.advance(60)
    assert authenticate(db, new.text) is None
    with db.of_platform().reading() as tx:
        assert key_state(get_key(tx, new.row.id, tenant=None), tx.now) is KeyState.EXPIRED


def test_a_rotated_key_is_valid_for_the_grace_and_its_lifetime_begins_again(db: Database, clock: FakeClock) -> None:
    old = made(db, ttl_s=1000)
    clock.advance(500)
    with db.of_platform().transaction() as tx:
        new = rotate_key(tx, old.row.id, tenant="studio", grace_s=100, actor="test")
    assert (new.row.scopes, new.row.tenant, new.row.name) == (["jobs:read"], "studio", "a name")
    clock.advance(99)
    assert authenticate(db, old.text) is not None
    clock.advance(1)
    assert authenticate(db, old.text) is None
    clock.advance(899)
    assert authenticate(db, new.text) is not None
    with db.of_platform().transaction() as tx, pytest.raises(ApiKeyInactiveError):
        rotate_key(tx, old.row.id, tenant="studio", grace_s=0, actor="test")


def test_a_rotation_without_grace_revokes_the_old_key(db: Database) -> None:
    old = made(db)
    with db.of_platform().transaction() as tx:
        new = rotate_key(tx, old.row.id, tenant="studio", grace_s=0, actor="test")
    assert authenticate(db, old.text) is None
    assert authenticate(db, new.text) is not None
    with db.of_platform().reading() as tx:
        assert get_key(tx, old.row.id, tenant=None).replaced_by == new.row.id


def test_a_key_is_rotated_once(db: Database) -> None:
    old = made(db)
    with db.of_platform().transaction() as tx:
        rotate_key(tx, old.row.id, tenant="studio", grace_s=100, actor="test")
    with db.of_platform().transaction() as tx, pytest.raises(ApiKeyInactiveError, match="has been replaced"):
        rotate_key(tx, old.row.id, tenant="studio", grace_s=100, actor="test")


def test_another_tenants_key_is_not_found(db: Database) -> None:
    new = made(db)
    with db.of_platform().transaction() as tx:
        with pytest.raises(ApiKeyNotFoundError):
            get_key(tx, new.row.id, tenant="other")
        with pytest.raises(ApiKeyNotFoundError):
            revoke_key(tx, new.row.id, tenant="other", actor="test")
        assert list_keys(tx, tenant="other").keys == []
        assert len(list_keys(tx, tenant=None).keys) == 1


def test_lists_come_in_pages_newest_first(db: Database) -> None:
    ids = [made(db).row.id for _ in range(5)]
    with db.of_platform().reading() as tx:
        first = list_keys(tx, tenant="studio", limit=3)
        second = list_keys(tx, tenant="studio", limit=3, cursor=first.next_cursor)
    assert [key.id for key in (*first.keys, *second.keys)] == sorted(ids, reverse=True)
    assert second.next_cursor is None


def test_only_active_keys_are_listed_where_asked(db: Database, clock: FakeClock) -> None:
    made(db, ttl_s=10)
    active = made(db)
    clock.advance(10)
    with db.of_platform().reading() as tx:
        assert [key.id for key in list_keys(tx, tenant="studio", active=True).keys] == [active.row.id]


@pytest.mark.parametrize("tenant", ["", "a b", "ü", "x" * 65, "-a", "a/b", "a\n"])
def test_a_tenant_has_a_plain_name(db: Database, tenant: str) -> None:
    with pytest.raises(RequestInvalidError, match="tenant"):
        made(db, tenant)


def test_a_key_that_would_never_be_valid_is_refused(db: Database) -> None:
    with pytest.raises(RequestInvalidError, match="expires_at"):
        made(db, ttl_s=0)


def test_the_last_use_is_set_once_a_minute(db: Database, clock: FakeClock) -> None:
    new = made(db)

    def used() -> object:
        with db.of_platform().transaction() as tx:
            note_use(tx, {new.row.id})
        with db.of_platform().reading() as tx:
            return get_key(tx, new.row.id, tenant=None).last_used_at

    first = clock.time
    assert used() == first
    found = authenticate(db, new.text)
    assert found is not None
    assert not found.use_is_due
    clock.advance(59)
    assert used() == first
    clock.advance(1)
    found = authenticate(db, new.text)
    assert found is not None
    assert found.use_is_due
    assert used() == clock.time


def test_the_first_admin_key_is_made_once_and_kept_for_this_user_alone(db: Database, tmp_path: Path) -> None:
    key = make_first_key(db, tmp_path, actor="test")
    assert key is not None
    assert kept_key(tmp_path) == key
    assert (tmp_path / FILE_NAME).stat().st_mode & 0o777 == 0o600
    assert make_first_key(db, tmp_path, actor="test") is None
    found = authenticate(db, key)
    assert found is not None
    assert KeyScope.ADMIN in found.scopes
    with db.of_platform().transaction() as tx:
        revoke_key(tx, found.id, tenant=None, actor="test")
    with db.of_platform().reading() as tx:
        assert not has_admin_key(tx)


def test_no_first_key_is_made_where_it_cannot_be_kept(db: Database, tmp_path: Path) -> None:
    with pytest.raises(OSError):
        make_first_key(db, tmp_path / "missing", actor="test")
    with db.of_platform().reading() as tx:
        assert not has_admin_key(tx)


def test_what_is_done_with_keys_is_in_the_audit_without_their_texts(db: Database) -> None:
    old = made(db)
    with db.of_platform().transaction() as tx:
        new = rotate_key(tx, old.row.id, tenant="studio", grace_s=0, actor="key:key_1")
        revoke_key(tx, new.row.id, tenant="studio", actor="cli:ann")
    with db.of_platform().reading() as tx:
        page = list_audit(tx, limit=3)
        rest = list_audit(tx, cursor=page.next_cursor)
        assert [event.action for event in page.events] == ["key.revoke", "key.rotate", "key.create"]
        assert [event.action for event in rest.events] == ["key.create"]
        assert [event.actor for event in page.events] == ["cli:ann", "key:key_1", "key:key_1"]
        assert [one.subject for one in list_audit(tx, action="key.revoke").events] == [new.row.id]
        assert not any(text in repr(event.detail) for text in (old.text, new.text) for event in page.events)
