"""Fixtures that every kind of test may use: the servers (once a session) and a migrated database of each kind."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
from sqlalchemy.orm import Session
from xdist.remote import Producer

from jobs.db.database import Database
from local_services.postgres import postgres_database, postgres_server, remove_shared_folder
from local_services.s3 import s3_server
from local_services.valkey import valkey_server
from tests.databases import migrated_postgres, migrated_sqlite
from tests.distribution import UnitScheduling, place

# Set by pytest-xdist in each of its processes: which run it belongs to.
RUN = os.environ.get("PYTEST_XDIST_TESTRUNUID")
if RUN:
    # Several test processes share the cores: more threads in each would only wait for each other.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("MKL_NUM_THREADS", "1")
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def pytest_configure() -> None:
    """Do not search for garbage while modules are imported and tests collected: nothing of that goes away."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Leave what was imported and collected out of every later search; that takes a tenth off a run's time."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _same_umask() -> Iterator[None]:
    """Undo what a command run inside a test has set: servers of other users could not read later tests' files."""
    umask = os.umask(0o022)
    os.umask(umask)
    yield
    os.umask(umask)


@pytest.fixture(autouse=True)
def _same_torch_threads() -> Iterator[None]:
    """Undo what a command run inside a test has set: its threads would slow down every later test of the process."""
    torch = sys.modules.get("torch")
    threads = torch.get_num_threads() if torch is not None else None
    yield
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads or int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run slow files first."""
    items.sort(key=lambda item: place(item.nodeid))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> UnitScheduling:
    """Keep files together and in the order given, which no choice of `--dist` does."""
    return UnitScheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Remove the PostgreSQL folder that pytest-xdist's processes shared, once they have all ended."""
    manager = session.config.pluginmanager.getplugin("dsession")
    if manager is not None:
        remove_shared_folder(manager.nodemanager.testrunuid)


@pytest.fixture(scope="session")
def postgres_uri() -> Iterator[str]:
    """One server for all processes of a run."""
    with postgres_server(share=RUN) as uri:
        with psycopg.connect(uri, autocommit=True) as connection:
            # A crash of the machine loses nothing that a test needs, so no commit has to wait for the disk.
            for name in ("fsync", "full_page_writes", "synchronous_commit"):
                connection.execute(f"ALTER SYSTEM SET {name} = off")
            connection.execute("SELECT pg_reload_conf()")
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


@pytest.fixture(params=["sqlite", "postgresql"])
def migrated_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """A database of each kind, migrated by Alembic as in production."""
    if request.param == "sqlite":
        yield migrated_sqlite(tmp_path / "mmaudio.db")
    else:
        with migrated_postgres(request.getfixturevalue("postgres_uri")) as url:
            yield url


@pytest.fixture
def db(migrated_url: str, clock: FakeClock) -> Iterator[Database]:
    """A migrated database of each kind, bound to the platform, with a clock that the test moves."""
    database = Database(migrated_url, clock=clock).of_platform()
    yield database
    database.close()
