"""Worker processes."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class WorkerPath(BaseModel):
    worker_id: str = Field(max_length=80)


class GpuView(BaseModel):
    """As the driver says it; null: this device does not say."""

    memory_used_bytes: int | None
    memory_total_bytes: int | None
    utilization: float | None = Field(description="Share of the last moment in which the GPU worked, 0 to 1.")
    temperature_c: float | None


class WorkerView(BaseModel):
    id: str
    hostname: str
    pid: int
    device: str
    state: Literal["starting", "idle", "busy", "draining", "stopped", "lost"]
    drain_requested: bool
    slots: int
    variants: list[str]
    variants_loaded: list[str]
    memory_bytes: int | None
    gpu: GpuView | None = Field(description="Null for a worker on a processor.")
    running_jobs: list[str]
    started_at: datetime
    heartbeat_at: datetime


class WorkerList(BaseModel):
    data: list[WorkerView]
