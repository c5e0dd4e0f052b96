"""What every subject of a scene can do."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.event import Event


class Subject(Protocol):
    """Something that is seen and heard. A frozen dataclass; made by a function that draws its parameters."""

    @property
    def events(self) -> tuple[Event, ...]:
        """Its impacts; none for what sounds all the time."""
        ...

    def captions(self) -> tuple[str, ...]:
        """Return all ways to describe it, the plainest first."""
        ...

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw it as it is at this time."""
        ...

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        """Return its sound, float64 (samples,), about 1 at its loudest; the generator is for noises only."""
        ...
