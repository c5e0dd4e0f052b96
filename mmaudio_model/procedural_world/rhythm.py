"""Random times of impacts, in seconds."""

from __future__ import annotations

import numpy as np

from mmaudio_model.procedural_world.event import Event, make_events


def irregular_events(rng: np.random.Generator, duration_s: float, *, mean_gap_s: float) -> tuple[Event, ...]:
    """Return impacts at intervals between 0.55 and 1.6 times the mean, unpredictable without the picture."""
    times = [rng.uniform(0.25, 0.25 + 0.5 * mean_gap_s)]
    while times[-1] < duration_s:
        times.append(times[-1] + mean_gap_s * rng.uniform(0.55, 1.6))
    return make_events(times, [rng.uniform(0.35, 1.0) for _ in times], duration_s)


def walking_events(rng: np.random.Generator, duration_s: float, *, gap_s: float) -> tuple[Event, ...]:
    """Return footsteps: nearly even while walking, with occasional stops."""
    times, strengths = [rng.uniform(0.25, 0.6)], [rng.uniform(0.5, 0.9)]
    while times[-1] < duration_s:
        stop = rng.uniform(0.7, 1.4) if rng.random() < 0.12 else 0.0
        times.append(times[-1] + gap_s * rng.uniform(0.9, 1.1) + stop)
        strengths.append(rng.uniform(0.5, 0.95))
    return make_events(times, strengths, duration_s)


def steady_events(rng: np.random.Generator, duration_s: float, *, gap_s: float) -> tuple[Event, ...]:
    """Return regular impacts of almost equal strength."""
    times = np.arange(rng.uniform(0.12, 0.12 + min(gap_s, 0.8)), duration_s, gap_s)
    return make_events(list(times), [0.8 if index % 2 else 0.7 for index in range(len(times))], duration_s)
