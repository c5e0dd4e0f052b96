"""Migrated databases for tests: Alembic migrates one of each kind a process, and every test gets a copy of it."""

from __future__ import annotations

import contextlib
import functools
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

from local_services.postgres import create_database, database_url, postgres_database
from migrations.upgrade import upgrade


def migrated_sqlite(path: Path) -> str:
    """Write a migrated, empty database to `path`; return its URL."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_sqlite_template())
    return f"sqlite:///{path}"


@functools.cache
def _sqlite_template() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "template.db"
        upgrade(f"sqlite:///{path}")
        return path.read_bytes()


@contextlib.contextmanager
def migrated_postgres(server_uri: str) -> Iterator[str]:
    """Make a migrated, empty database on the server; yield its URL; drop it afterwards."""
    with postgres_database(server_uri, template=_postgres_template(server_uri)) as url:
        yield url


@functools.cache
def _postgres_template(server_uri: str) -> str:
    name = f"template_{uuid.uuid4().hex}"
    create_database(server_uri, name)
    upgrade(database_url(server_uri, name))
    return name
