"""The interface of a scene's subject."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.event import Event


class Subject(Protocol):
    """A visible and audible object: a frozen dataclass whose parameters are drawn by its `make_` function."""

    @property
    def events(self) -> tuple[Event, ...]:
        """Impacts; empty for continuous sounds."""
        ...

    def captions(self) -> tuple[str, ...]:
        """Return all captions, the simplest first."""
        ...

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw it at a time in seconds."""
        ...

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        """Return its sound, float64 (samples,), with a peak of about 1; the generator is only for noise."""
        ...
