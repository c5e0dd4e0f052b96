"""Motion between events: lift of striking objects, and smooth curves through random values."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.event import Event

RISE_S = 0.32
FALL_S = 0.2


def lift(events: Sequence[Event], time_s: float, *, rise_s: float = RISE_S, fall_s: float = FALL_S) -> float:
    """Return the distance of a striking object from its target: exactly 0 at each event, at most 1 between.

    It falls with acceleration, from higher before a stronger impact, so the strength is visible beforehand.
    """
    after = bisect_right([event.time_s for event in events], time_s)
    height, falling, rising = 0.6, 1.0, 1.0
    if after < len(events):
        coming = events[after]
        height = 0.3 + 0.7 * coming.strength
        falling = min((coming.time_s - time_s) / fall_s, 1.0)
    if after > 0:
        rising = min((time_s - events[after - 1].time_s) / rise_s, 1.0)
    return height * min(1 - (1 - falling) ** 2, 1 - (1 - rising) ** 2)


@dataclass(frozen=True)
class Curve:
    """Values at knots (seconds), with a smooth step from each to the next; constant outside."""

    times_s: tuple[float, ...]
    values: tuple[float, ...]

    def at(self, times_s: np.ndarray | float) -> np.ndarray:
        """Return the values at these times, float64 of the same shape."""
        u, first, second, _ = self._steps(times_s)
        values: np.ndarray = first + (second - first) * (3 * u**2 - 2 * u**3)
        return values

    def integral(self, times_s: np.ndarray | float) -> np.ndarray:
        """Return the integral from the first knot to these times (which lie between the knots), value seconds."""
        u, first, second, index = self._steps(times_s)
        knots, values = np.array(self.times_s), np.array(self.values)
        widths = np.diff(knots)
        # A smooth step's mean is that of its ends.
        whole = np.concatenate([[0.0], np.cumsum(widths * (values[1:] + values[:-1]) / 2)])
        integral: np.ndarray = whole[index] + widths[index] * (first * u + (second - first) * (u**3 - u**4 / 2))
        return integral

    def _steps(self, times_s: np.ndarray | float) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        knots, values = np.array(self.times_s), np.array(self.values)
        index = np.clip(np.searchsorted(knots, times_s, side="right") - 1, 0, len(knots) - 2)
        u = np.clip((times_s - knots[index]) / (knots[index + 1] - knots[index]), 0.0, 1.0)
        return u, values[index], values[index + 1], index


def draw_curve(
    rng: np.random.Generator, duration_s: float, *, low: float, high: float, gap_s: tuple[float, float]
) -> Curve:
    """Draw a curve over the whole clip that goes up and down between `low` and `high`, a knot every `gap_s`."""
    times, middle = [0.0], (low + high) / 2
    above = bool(rng.random() < 0.5)
    values = [rng.uniform(middle, high) if above else rng.uniform(low, middle)]
    while times[-1] <= duration_s:
        above = not above
        times.append(times[-1] + rng.uniform(*gap_s))
        values.append(rng.uniform(middle, high) if above else rng.uniform(low, middle))
    return Curve(tuple(round(t, 6) for t in times), tuple(round(v, 6) for v in values))
