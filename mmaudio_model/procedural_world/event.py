"""What happens at an instant: the truth that picture and sound share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_GAP_S = 0.12
"""Two impacts of a scene are at least this far apart: closer ones are one onset to an ear and to a detector."""
LEAD_S = 0.1
TAIL_S = 0.06
"""No event in the last moments of a clip: its onset could not be heard."""


@dataclass(frozen=True)
class Event:
    """An impact: when, in seconds from the start of the scene, and how hard, in 0..1."""

    time_s: float
    strength: float


def make_events(times_s: Sequence[float], strengths: Sequence[float], duration_s: float) -> tuple[Event, ...]:
    """Return the events that lie inside a clip, in time order, none closer than MIN_GAP_S to the one before."""
    events: list[Event] = []
    for time_s, strength in sorted(zip(times_s, strengths, strict=True)):
        # Rounded, so that the last bits of a machine's sine or square root do not matter.
        time_s = round(float(time_s), 6)
        if not LEAD_S <= time_s <= duration_s - TAIL_S:
            continue
        if events and time_s - events[-1].time_s < MIN_GAP_S:
            continue
        events.append(Event(time_s, round(min(max(float(strength), 0.0), 1.0), 6)))
    return tuple(events)
