"""Onsets against events: which belong together, how many were found, and how late they are."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

TOLERANCE_S = 0.06


@dataclass(frozen=True)
class Matches:
    """How the onsets of a sound, or of many, compare with the truth."""

    expected: int
    detected: int
    delays_s: tuple[float, ...]
    """One a matched pair: detected minus true, so positive is late."""

    @property
    def precision(self) -> float:
        return len(self.delays_s) / self.detected if self.detected else float(not self.expected)

    @property
    def recall(self) -> float:
        return len(self.delays_s) / self.expected if self.expected else float(not self.detected)

    @property
    def f1(self) -> float:
        """Return the harmonic mean of precision and recall; 1 where nothing was to be found and nothing was."""
        total = self.expected + self.detected
        return 2 * len(self.delays_s) / total if total else 1.0

    def figures(self) -> dict[str, float | int | None]:
        """Return the numbers of a report; delays are None where nothing matched."""
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
    """Pair as many onsets with events as can be, each at most once and within the tolerance.

    Going through both in time order and pairing whatever is close enough gives the most pairs that there can be:
    what is left out is too early for every event that is still free.
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
    """Return the matches of many sounds as one: every event counts the same."""
    every = list(matches)
    return Matches(
        sum(one.expected for one in every),
        sum(one.detected for one in every),
        tuple(delay for one in every for delay in one.delays_s),
    )
