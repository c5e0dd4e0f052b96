"""Worker processes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from pydantic import BaseModel, Field

from api.schemas.view import Timestamp, View
from jobs.db.tables import Worker
from jobs.lifecycle import DisplayedWorkerState
from jobs.service.queries import displayed_worker_state, is_lost


class WorkerPath(BaseModel):
    worker_id: str = Field(max_length=80, description="Id of the worker.")


class GpuView(View):
    """Figures of the GPU's driver; null: the device does not report them."""

    memory_used_bytes: int | None
    memory_total_bytes: int | None
    utilization: float | None = Field(description="Fraction of the last sample period in which the GPU was busy.")
    temperature_c: float | None


class UnavailableView(View):
    """Why a worker takes no jobs."""

    code: str = Field(description="`storage_unavailable`, `storage_refused`, `disk_full`, `device_failed`, ...")
    message: str
    since: Timestamp


class WorkerView(View):
    id: str
    hostname: str
    pid: int
    device: str
    state: DisplayedWorkerState
    drain_requested: bool
    slots: int = Field(description="Maximum number of jobs that run at once.")
    variants: list[str] = Field(description="Variants whose jobs it runs.")
    variants_loaded: list[str] = Field(description="Variants in memory.")
    memory_bytes: int | None = Field(description="Resident memory of the process.")
    gpu: GpuView | None = Field(description="null for a worker without a GPU.")
    unavailable: UnavailableView | None = Field(description="Why it takes no jobs; null: it takes them.")
    clock_skew_s: float | None = Field(description="Seconds that its clock is ahead of the database's.")
    sandbox_lacks: list[str] | None = Field(
        description="What kernel or container refuse to its processes that read files: `namespaces`, "
        "`landlock`, `seccomp`. Empty: nothing; null: not known."
    )
    running_jobs: list[str] = Field(description="Ids of its running jobs.")
    started_at: Timestamp
    heartbeat_at: Timestamp = Field(description="When it last sent a heartbeat.")

    @classmethod
    def from_row(cls, row: Worker, *, running_jobs: Sequence[str], now: datetime, lost_after_s: float) -> WorkerView:
        """Return the document of a worker."""
        return cls(
            id=row.id,
            hostname=row.hostname,
            pid=row.pid,
            device=row.device,
            state=displayed_worker_state(row, busy=bool(running_jobs), lost=is_lost(row, now, lost_after_s)),
            drain_requested=row.drain_requested_at is not None,
            slots=row.slots,
            variants=row.variants,
            variants_loaded=row.variants_loaded,
            memory_bytes=row.memory_bytes,
            gpu=None if row.gpu is None else GpuView(**{name: row.gpu.get(name) for name in GpuView.model_fields}),
            unavailable=None if row.unavailable is None else UnavailableView.model_validate(row.unavailable),
            clock_skew_s=row.clock_skew_s,
            sandbox_lacks=row.sandbox_lacks,
            running_jobs=list(running_jobs),
            started_at=row.started_at,
            heartbeat_at=row.heartbeat_at,
        )


class WorkerList(View):
    data: list[WorkerView] = Field(description="The workers; empty for keys that are no admin's.")
    counts: dict[DisplayedWorkerState, int] = Field(description="Number of workers by state.")
