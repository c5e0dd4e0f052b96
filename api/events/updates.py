"""What those who stream get to know about a job, and how it looks as a server-sent event."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from api.schemas.view import iso_time
from jobs.lifecycle import EventKind, State, state_after

PROGRESS = "progress"
"""The kind of an update that is no event: it has no position and is not replayed."""


@dataclass(frozen=True)
class JobUpdate:
    """An event of a job, or its progress.

    Attributes:
        position: the public id of the event; None: progress.
        kind: an `EventKind`, or `PROGRESS`.
        data: of the event as stored; of progress: `stage`, `progress` (0..1), `step`, `eta_s`.
        created_at: when it happened; for progress, when it was read.
    """

    position: int | None
    tenant: str
    job_id: str
    kind: str
    attempt: int
    data: dict[str, Any]
    created_at: datetime

    @property
    def state(self) -> State:
        """The state of the job after it."""
        return State.RUNNING if self.position is None else state_after(EventKind(self.kind), self.data)

    @property
    def is_last(self) -> bool:
        """Whether nothing follows it: the job has ended."""
        return self.state.is_terminal

    def document(self) -> dict[str, Any]:
        """Return the JSON document."""
        return {
            "id": self.position,
            "job_id": self.job_id,
            "kind": self.kind,
            "state": str(self.state),
            "attempt": self.attempt,
            "data": self.data,
            "created_at": iso_time(self.created_at),
        }

    @cached_property
    def frame(self) -> bytes:
        """The server-sent event; made once for all streams."""
        return server_sent_event(self.document(), event=self.kind, position=self.position)


def server_sent_event(document: dict[str, Any], *, event: str | None = None, position: int | None = None) -> bytes:
    """Return a server-sent event with a JSON document as its data.

    Args:
        event: its type; None: the client's default, `message`.
        position: its id; None: the client keeps the last one for its reconnect.
    """
    lines = []
    if position is not None:
        lines.append(f"id: {position}")
    if event is not None:
        lines.append(f"event: {event}")
    # ASCII: some clients take U+2028 and others for the end of a line.
    lines.append(f"data: {json.dumps(document, separators=(',', ':'))}")
    return ("\n".join(lines) + "\n\n").encode()
