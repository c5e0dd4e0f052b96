"""Queue statistics."""

from __future__ import annotations

from pydantic import BaseModel, Field


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
