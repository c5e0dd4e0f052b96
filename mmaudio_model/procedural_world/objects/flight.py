"""The flight of a bouncing ball: dropped from above the picture, bouncing, then rolling away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DROP = 1.15
"""Height of the first fall, in picture heights; starts above the picture."""
SHORTEST_FLIGHT_S = 0.22
"""A ball whose next bounce would be shorter than this starts rolling."""
SQUEEZE_S = 0.06


@dataclass(frozen=True)
class Throw:
    """One ball: dropped at `start_s` at `x`, drifting `drift` a second. Its bounces follow from that."""

    start_s: float
    x: float
    drift: float
    fall_s: float
    """How long the first fall takes; with its height this is gravity, and so the size of the scene."""
    restitution: float
    """Speed after a bounce over the speed before."""

    @property
    def bounces_s(self) -> tuple[float, ...]:
        times, flight = [self.start_s + self.fall_s], 2 * self.fall_s * self.restitution
        while flight >= SHORTEST_FLIGHT_S:
            times.append(times[-1] + flight)
            flight *= self.restitution
        return tuple(times)

    @property
    def strengths(self) -> tuple[float, ...]:
        """Speeds of the bounces, the first being 1."""
        return tuple(self.restitution**index for index in range(len(self.bounces_s)))

    def height(self, time_s: float) -> float:
        """Return how high the ball's lowest point is above the ground, in picture heights."""
        gravity = 2 * DROP / self.fall_s**2
        bounces = self.bounces_s
        if time_s < bounces[0]:
            return DROP - gravity * max(time_s - self.start_s, 0.0) ** 2 / 2
        if time_s >= bounces[-1]:
            return 0.0
        last = max(index for index, bounce in enumerate(bounces) if bounce <= time_s)
        since = time_s - bounces[last]
        return gravity * since * (bounces[last + 1] - bounces[last] - since) / 2

    def squeeze(self, time_s: float) -> float:
        """Return how much the ground presses on the ball, 0..1: only about a bounce, and less at a weaker one."""
        pressed = zip(self.bounces_s, self.strengths, strict=True)
        return max(strength * max(0.0, 1 - abs(time_s - bounce) / SQUEEZE_S) for bounce, strength in pressed)

    def place(self, time_s: float) -> float:
        """Return the ball's x: an even drift, and after the last bounce it rolls away faster and faster."""
        rolling = max(time_s - self.bounces_s[-1], 0.0)
        return self.x + self.drift * (time_s - self.bounces_s[0]) + float(np.sign(self.drift)) * 0.25 * rolling**2


def draw_throws(rng: np.random.Generator, duration_s: float, restitution: tuple[float, float]) -> tuple[Throw, ...]:
    """Draw throws of one ball after the other until the clip is full."""
    throws: list[Throw] = []
    fall_s, bounciness = rng.uniform(0.42, 0.62), rng.uniform(*restitution)
    start = -rng.uniform(0.0, 0.8) * fall_s
    while start + fall_s < duration_s:
        drift = rng.uniform(0.03, 0.09) * (1 if rng.random() < 0.5 else -1)
        # It crosses the middle of the picture while it bounces.
        x = -np.sign(drift) * rng.uniform(0.05, 0.25)
        throw = Throw(round(start, 6), round(float(x), 6), round(drift, 6), round(fall_s, 6), round(bounciness, 6))
        throws.append(throw)
        start = throw.bounces_s[-1] + rng.uniform(0.1, 0.7)
    return tuple(throws)
