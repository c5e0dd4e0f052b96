"""Tells trouble of the platform from a fault of the job, behind whatever exception ended an attempt."""

from __future__ import annotations

from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from jobs.db.faults import is_unavailable
from jobs.errors import DatabaseFailedError, DiskFullError, InfrastructureError, JobError, VariantFailedError
from jobs.lifecycle import Dependency, Stage
from mmaudio_model.errors import (
    DeviceUnavailableError,
    ModelError,
    WeightsDownloadError,
    WeightsMismatchError,
    WeightsMissingError,
)
from workers.disk_full import DiskFullLog
from workers.runner.availability import Availability

_WEIGHTS_ERRORS = (WeightsMissingError, WeightsMismatchError, WeightsDownloadError, DeviceUnavailableError)
_DEVICE_STAGES = frozenset({Stage.ENCODE, Stage.SAMPLE, Stage.VOCODE})


class AttemptErrors:
    """Classifies the errors of this process's attempts.

    Args:
        scratch: folder of temporary files, which a fetch fills; None: the system's.
    """

    def __init__(self, availability: Availability, disk_full: DiskFullLog, scratch: Path | None) -> None:
        self._availability, self._disk_full, self._scratch = availability, disk_full, scratch

    def infrastructure(self, exc: Exception, variant: str, stage: Stage | None) -> InfrastructureError | None:
        """Return the trouble of the platform that an exception means; None: the job's own fault."""
        # While the input is fetched, the store's side only reads: what is full is the scratch folder.
        if self._disk_full.report(exc, self._scratch if stage is Stage.FETCH else None):
            return DiskFullError(str(exc) if isinstance(exc, DiskFullError) else "A disk of the worker is full.")
        if isinstance(exc, InfrastructureError):
            return exc
        if isinstance(exc, SQLAlchemyError):
            return database_trouble(exc)
        if isinstance(exc, _WEIGHTS_ERRORS):
            return VariantFailedError(f"This worker cannot load {variant}: {exc}", variant)
        if isinstance(exc, ModelError | JobError):
            return None
        return self._by_check(stage)

    def _by_check(self, stage: Stage | None) -> InfrastructureError | None:
        """Check what an unexpected error may come from: a disk that became read-only, a device that broke."""
        for dependency in (Dependency.DISK, Dependency.DEVICE):
            if dependency is Dependency.DEVICE and stage not in _DEVICE_STAGES:
                continue
            trouble = self._availability.is_in_trouble_now(dependency)
            if trouble is not None:
                return trouble
        return None


def database_trouble(exc: SQLAlchemyError) -> DatabaseFailedError | None:
    """Return what an error of the database means for a job; None: a fault of the statement."""
    if is_unavailable(exc):
        return DatabaseFailedError("The database does not answer, or cannot be written to.")
    return None
