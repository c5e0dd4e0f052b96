"""Queue statistics."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from api.schemas.view import View
from jobs.service.scheduling.queue_stats import QueueStats


class QueueView(View):
    variant: str
    paused: bool = Field(description="Whether an operator has paused it: no jobs start.")
    queued: int
    running: int
    oldest_queued_age_s: float | None = Field(description="Age of the oldest queued job.")
    throughput_per_min: float = Field(description="Jobs that succeeded per minute, over the last five minutes.")
    eta_s: float | None = Field(
        description="Seconds until all queued jobs are done at this throughput; null without throughput, or paused."
    )


class QueueList(View):
    data: list[QueueView]
    queued: int = Field(description="Queued jobs of all variants.")
    running: int = Field(description="Running jobs of all variants.")

    @classmethod
    def from_stats(cls, stats: Sequence[QueueStats]) -> QueueList:
        """Return the document of all queues."""
        return cls(
            data=[QueueView(**vars(one)) for one in stats],
            queued=sum(one.queued for one in stats),
            running=sum(one.running for one in stats),
        )
