"""A worker delivers only where an operator still lets the tenant."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.db.database import Database
from jobs.errors import OutputRefusedError
from jobs.service.attempts import Claim
from jobs.tenants.service import change_tenant
from tests.databases import migrated_sqlite
from workers.runner.delivery import check_delivery_allowed


@pytest.fixture
def db(tmp_path: Path) -> Iterator[Database]:
    database = Database(migrated_sqlite(tmp_path / "mmaudio.db"))
    yield database.of_platform()
    database.close()


def claim(tenant: str, deliver_to: str | None) -> Claim:
    now = datetime(2026, 1, 1, tzinfo=UTC)
    request = {"prompt": "rain"} | ({"deliver_to": deliver_to} if deliver_to else {})
    return Claim("job_1", 1, "w1", tenant, "tiny_16k", request, None, now, now, 0.0)


def allow(db: Database, tenant: str, *output_buckets: str) -> None:
    with db.transaction() as tx:
        change_tenant(tx, tenant, {"output_buckets": list(output_buckets)}, actor="test")


def test_a_folder_that_was_taken_away_since_the_submit_gets_nothing(db: Database) -> None:
    allow(db, "studio", "sounds/studio")
    check_delivery_allowed(db, claim("studio", "s3://sounds/studio/"))
    allow(db, "studio", "sounds/other")
    with pytest.raises(OutputRefusedError, match="does not deliver to this folder of bucket 'sounds'"):
        check_delivery_allowed(db, claim("studio", "s3://sounds/studio/"))


def test_a_tenant_without_buckets_gets_nothing_and_the_default_one_what_the_settings_say(db: Database) -> None:
    check_delivery_allowed(db, claim("default", "s3://sounds/"))
    with pytest.raises(OutputRefusedError):
        check_delivery_allowed(db, claim("studio", "s3://sounds/"))


def test_a_job_that_delivers_nowhere_needs_no_permission(db: Database) -> None:
    check_delivery_allowed(db, claim("studio", None))
