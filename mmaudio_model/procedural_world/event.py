"""Impacts: times and strengths shared by picture and sound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_GAP_S = 0.12
"""Least time between impacts of a scene; closer ones are heard and detected as one onset."""
LEAD_S = 0.1
TAIL_S = 0.06
"""No event this close to the end of a clip, where its onset would be inaudible."""


@dataclass(frozen=True)
class Event:
    """An impact: time in seconds from the start of the scene, strength in 0..1."""

    time_s: float
    strength: float


def make_events(times_s: Sequence[float], strengths: Sequence[float], duration_s: float) -> tuple[Event, ...]:
    """Return the events within a clip, in time order, at least MIN_GAP_S apart."""
    events: list[Event] = []
    for time_s, strength in sorted(zip(times_s, strengths, strict=True)):
        # Rounded, so that platform differences in sine or square root do not matter.
        time_s = round(float(time_s), 6)
        if not LEAD_S <= time_s <= duration_s - TAIL_S:
            continue
        if events and time_s - events[-1].time_s < MIN_GAP_S:
            continue
        events.append(Event(time_s, round(min(max(float(strength), 0.0), 1.0), 6)))
    return tuple(events)
