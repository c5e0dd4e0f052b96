"""Matching of detected onsets with true events: precision, recall, F1 and delays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

TOLERANCE_S = 0.06


@dataclass(frozen=True)
class Matches:
    """Result of matching the onsets of one or more sounds with the true events."""

    expected: int
    detected: int
    delays_s: tuple[float, ...]
    """Delay of each matched pair in seconds: detected minus true, so positive means late."""

    @property
    def precision(self) -> float:
        return len(self.delays_s) / self.detected if self.detected else float(not self.expected)

    @property
    def recall(self) -> float:
        return len(self.delays_s) / self.expected if self.expected else float(not self.detected)

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall; 1 if there are neither events nor onsets."""
        total = self.expected + self.detected
        return 2 * len(self.delays_s) / total if total else 1.0

    def figures(self) -> dict[str, float | int | None]:
        """Return the values for a report; delays are None if nothing matched."""
        delays = np.array(self.delays_s)
        return {
            "f1": self.f1,
            "precision": self.precision,
            "recall": self.recall,
            "expected": self.expected,
            "detected": self.detected,
            "matched": len(delays),
            "delay_median_s": float(np.median(delays)) if len(delays) else None,
            "delay_mean_absolute_s": float(np.abs(delays).mean()) if len(delays) else None,
            "delay_median_absolute_s": float(np.median(np.abs(delays))) if len(delays) else None,
        }


def match_onsets(
    expected_s: Sequence[float] | np.ndarray,
    detected_s: Sequence[float] | np.ndarray,
    *,
    tolerance_s: float = TOLERANCE_S,
) -> Matches:
    """Match onsets with events, each at most once and within the tolerance.

    The greedy matching in time order is maximal: a skipped onset is too early for every remaining event.
    """
    expected, detected = sorted(map(float, expected_s)), sorted(map(float, detected_s))
    delays: list[float] = []
    truth = found = 0
    while truth < len(expected) and found < len(detected):
        delay = detected[found] - expected[truth]
        # Times are differences of doubles: a delay of exactly the tolerance is within it.
        if abs(delay) <= tolerance_s + 1e-9:
            delays.append(delay)
            truth, found = truth + 1, found + 1
        elif delay < 0:
            found += 1
        else:
            truth += 1
    return Matches(len(expected), len(detected), tuple(delays))


def pool(matches: Iterable[Matches]) -> Matches:
    """Return the combined matches of many sounds; every event has equal weight."""
    every = list(matches)
    return Matches(
        sum(one.expected for one in every),
        sum(one.detected for one in every),
        tuple(delay for one in every for delay in one.delays_s),
    )
