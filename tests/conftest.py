"""Fixtures that every kind of test may use: the servers (once a session) and a migrated database of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy.orm import Session

from jobs.db.database import Database
from local_services.postgres import postgres_database, postgres_server
from local_services.s3 import s3_server
from local_services.valkey import valkey_server
from migrations.upgrade import upgrade


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    with postgres_server() as uri:
        yield uri


@pytest.fixture(scope="session")
def broker_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with valkey_server(tmp_path_factory.mktemp("valkey")) as url:
        yield url


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    with s3_server() as url:
        yield url


@dataclass
class FakeClock:
    """A clock that stands still until a test moves it."""

    time: datetime = field(default=datetime(2026, 1, 1, 12, tzinfo=UTC))

    def now(self, session: Session) -> datetime:
        return self.time

    def advance(self, seconds: float) -> None:
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'mmaudio.db'}"
    else:
        with postgres_database(request.getfixturevalue("postgres_uri")) as url:
            yield url


@pytest.fixture
def db(database_url: str, clock: FakeClock) -> Iterator[Database]:
    """A database of each kind, migrated by Alembic as in production, with a clock that the test moves."""
    upgrade(database_url)
    database = Database(database_url, clock=clock)
    yield database
    database.close()
