"""Tells the faults of one event from those of the services: the first concern that event only, the others all."""

from __future__ import annotations

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.faults import is_value_fault
from jobs.storage.errors import StorageError


def is_event_fault(exc: Exception) -> bool:
    """Return whether an event's own data caused an error, so that it fails again however well the services work."""
    if isinstance(exc, SQLAlchemyError):
        return is_value_fault(exc)
    return not isinstance(exc, StorageError | OSError | MemoryError)
