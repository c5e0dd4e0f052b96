"""The house itself: variants, limits, queues, workers, health."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, Field


class VariantView(BaseModel):
    name: str
    installed: bool = Field(description="A living worker takes jobs for it.")
    default: bool
    sample_rate_hz: int
    min_duration_s: float
    max_duration_s: float
    default_duration_s: float
    licence: str
    note: str | None


class LimitsView(BaseModel):
    """What holds for every variant. A request beyond is refused, at the latest when its file is read."""

    max_upload_bytes: int
    max_pixels: int
    max_source_duration_s: float
    max_num_steps: int
    max_num_samples: int


class VariantList(BaseModel):
    data: list[VariantView]
    limits: LimitsView


class QueueView(BaseModel):
    variant: str
    paused: bool = Field(description="An operator lets no more of its jobs start.")
    queued: int
    running: int
    oldest_queued_age_s: float | None
    throughput_per_min: float
    eta_s: float | None


class QueueList(BaseModel):
    data: list[QueueView]
    queued: int
    running: int


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
    jobs_in_hand: list[str]
    started_at: datetime
    heartbeat_at: datetime


class WorkerList(BaseModel):
    data: list[WorkerView]


class HealthView(BaseModel):
    status: Literal["ok"]


class ReadyView(BaseModel):
    status: Literal["ready", "down"]
    checks: dict[str, Literal["ok", "down"]]
