"""The checks by which a worker proves what it needs: at its start, and while something is in trouble."""

from __future__ import annotations

import contextlib
import socket
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.database import Database
from jobs.disk_space import NO_RESERVE, DiskReserve, existing, local_path
from jobs.errors import DatabaseFailedError, DeviceFailedError, DiskFullError, StorageFailedError, StorageRefusedError
from jobs.lifecycle import Dependency
from jobs.settings import Settings
from jobs.storage.errors import ObjectForbiddenError, ServerRefusedError, StorageError, WriteRefusedError
from jobs.storage.factory import open_store
from jobs.storage.identity import StoreMismatchError, check_identity
from jobs.storage.probe import prove_store
from jobs.storage.protocol import CallLimits, ObjectStore
from workers.host.self_test import DeviceUnusableError, check_device

# A check must notice soon that the store is back, and must not hang with it.
STORE_LIMITS = CallLimits(connect_s=2.0, read_s=5.0, tries=1)
# Room that the smallest result needs.
PROBE_BYTES = 64 * 1024


def make_checks(
    settings: Settings, db: Database, *, worker_id: str, torch_device: str
) -> dict[Dependency, Callable[[], None]]:
    """Return a check per dependency; each raises `InfrastructureError` while its dependency is in trouble."""
    reserve = DiskReserve.of_worker(settings)
    return {
        Dependency.DATABASE: partial(check_database, db),
        Dependency.DISK: lambda: check_disks(local_folders(settings), reserve),
        Dependency.STORE: partial(check_store, db, open_store(settings, STORE_LIMITS), settings.storage_url, worker_id),
        Dependency.DEVICE: partial(check_torch_device, torch_device),
    }


def check_store(db: Database, store: ObjectStore, url: str, worker_id: str) -> None:
    """Prove that this host may use the object store, and that it is the one of the database.

    Raises:
        StorageFailedError, StorageRefusedError: it may not; the message names the host and the reason.
    """
    try:
        with contextlib.suppress(SQLAlchemyError):  # the check of the database says it
            check_identity(db, store)
        prove_store(store, worker_id)
    except (ServerRefusedError, ObjectForbiddenError, WriteRefusedError, StoreMismatchError) as exc:
        raise StorageRefusedError(f"Host {socket.gethostname()} may not use the object store {url}: {exc}") from exc
    except StorageError as exc:
        raise StorageFailedError(f"Host {socket.gethostname()} cannot use the object store {url}: {exc}") from exc


def local_folders(settings: Settings) -> list[Path]:
    """Return the folders of this host that a job's files and records are written to."""
    database = local_path(settings.database_url, "sqlite")
    storage = local_path(settings.storage_url, "file")
    folders = [
        settings.scratch_dir or Path(tempfile.gettempdir()),
        # Never made anew: where it is missing, its disk may be unmounted, and the check of the store says so.
        existing(storage) if storage is not None else None,
        database.parent if database is not None else None,
    ]
    return [folder for folder in folders if folder is not None]


def check_disks(folders: Sequence[Path], reserve: DiskReserve = NO_RESERVE) -> None:
    """Prove that files can be written to folders.

    Raises:
        DiskFullError: one cannot be written to, or has no more space than its reserve.
    """
    shortage = reserve.shortage()
    if shortage is not None:
        raise DiskFullError(f"Host {socket.gethostname()}: {shortage}.")
    for folder in folders:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(bytes(PROBE_BYTES))
                file.flush()
        except OSError as exc:
            raise DiskFullError(f"Host {socket.gethostname()} cannot write to {folder}: {exc.strerror}.") from exc


def check_database(db: Database) -> None:
    """Prove that the database answers.

    Raises:
        DatabaseFailedError: it does not.
    """
    try:
        db.check()
    except SQLAlchemyError as exc:
        raise DatabaseFailedError(f"Host {socket.gethostname()} gets no answer from the database.") from exc


def check_torch_device(torch_device: str) -> None:
    """Prove that the device computes.

    Raises:
        DeviceFailedError: it does not, or its results are wrong.
    """
    try:
        check_device(torch_device)
    except DeviceUnusableError as exc:
        raise DeviceFailedError(f"Host {socket.gethostname()}: {exc}") from exc
