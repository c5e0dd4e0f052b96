"""A person walking to and fro: legs and shoes; the sound depends on the ground."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mmaudio_model.procedural_world.canvas import Canvas, Point
from mmaudio_model.procedural_world.chance import Colour, near, pick, shade, vivid
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.rhythm import walking_events
from mmaudio_model.procedural_world.setting import Setting
from mmaudio_model.procedural_world.sounds.material import make_body
from mmaudio_model.procedural_world.sounds.modal import Body, strike_sound
from mmaudio_model.procedural_world.sounds.texture import bursts, filtered_noise

TURN_AT = 0.3
FOOT_LIFT = 0.07
ANKLE = 0.045
LONGEST_SWING_S = 0.42
# How much of the scuff of each ground, its centre frequency in Hz, and how long it lasts in seconds.
SCUFFS = MappingProxyType(
    {
        "planks": (0.12, 900, 0.03),
        "tiles": (0.22, 2400, 0.02),
        "carpet": (0.25, 500, 0.04),
        "plain": (0.2, 1500, 0.03),
        "grass": (0.5, 3200, 0.07),
        "gravel": (0.9, 3800, 0.06),
        "asphalt": (0.35, 1800, 0.04),
    }
)
PLACES = MappingProxyType(
    {"planks": "on a wooden floor", "tiles": "on tiles", "plain": "in a hall", "grass": "on grass"}
)


@dataclass(frozen=True)
class Walker:
    """Two legs; lengths in picture heights. Foot k % 2 comes down at event k."""

    step: float
    leg: float
    trousers: Colour
    coat: Colour
    shoes: Colour
    ground: str
    body: Body
    events: tuple[Event, ...]

    def captions(self) -> tuple[str, ...]:
        where = PLACES.get(self.ground, f"on {self.ground}")
        return (
            "footsteps",
            f"footsteps {where}",
            f"somebody walks {where}, footsteps",
            f"the sound of shoes {where}, footsteps",
            f"footsteps of a person walking to and fro {where}",
            "a person walking, each footstep is heard",
        )

    def height(self, time_s: float) -> float:
        """Return how high the foot that comes down next (or just came down) is, in picture heights."""
        index = self._coming(time_s)
        return 0.0 if index == len(self.events) else self._foot(index % 2, time_s)[1]

    def draw(self, canvas: Canvas, time_s: float) -> None:
        feet = [self._foot(side, time_s) for side in (0, 1)]
        bob = 0.1 * abs(feet[0][0] - feet[1][0])
        hip = ((feet[0][0] + feet[1][0]) / 2, self.leg + ANKLE - 0.008 - bob)
        facing = self._facing(time_s)
        canvas.shadow(hip[0], 0.12)
        for side in (1, 0):
            foot = feet[side]
            cloth = shade(self.trousers, 0.75 if side else 1.0)
            ankle = (foot[0], foot[1] + ANKLE)
            canvas.line([hip, self._knee(hip, ankle, facing), ankle], 0.06, cloth)
            toe = foot[0] + facing * 0.075
            canvas.polygon(
                [
                    (foot[0] - facing * 0.035, foot[1]),
                    (toe, foot[1]),
                    (toe, foot[1] + 0.025),
                    (foot[0] + facing * 0.02, foot[1] + 0.055),
                    (foot[0] - facing * 0.035, foot[1] + 0.055),
                ],
                shade(self.shoes, 0.75 if side else 1.0),
            )
        canvas.box(hip[0] - 0.075, hip[1] - 0.04, hip[0] + 0.075, hip[1] + 0.27, self.coat)
        shoulder, swing = (hip[0], hip[1] + 0.24), 0.9 * (feet[1][0] - feet[0][0])
        canvas.line([shoulder, (hip[0] + swing, hip[1] + 0.02)], 0.045, shade(self.coat, 0.75))
        canvas.ellipse(hip[0] + facing * 0.01, hip[1] + 0.34, 0.055, 0.065, (222, 178, 148))

    def _coming(self, time_s: float) -> int:
        return bisect_right([event.time_s for event in self.events], time_s - 1e-9)

    def _print(self, index: int) -> float:
        """Return where the foot stands from event `index` on: to and fro between the turning points."""
        walked = (index * self.step) % (4 * TURN_AT)
        return walked - TURN_AT if walked < 2 * TURN_AT else 3 * TURN_AT - walked

    def _facing(self, time_s: float) -> int:
        walked = (self._coming(time_s) * self.step) % (4 * TURN_AT)
        return 1 if walked < 2 * TURN_AT else -1

    def _foot(self, side: int, time_s: float) -> Point:
        coming = self._coming(time_s)
        if coming == len(self.events) or coming % 2 != side:
            stands = coming - 1 if (coming - 1) % 2 == side else coming - 2
            return self._print(stands), 0.0
        begin = self.events[coming - 1].time_s if coming else 0.0
        end = self.events[coming].time_s
        swing = min(LONGEST_SWING_S, end - begin)
        u = min(max((time_s - end + swing) / swing, 0.0), 1.0)
        x = self._print(coming - 2) + (self._print(coming) - self._print(coming - 2)) * (1 - math.cos(math.pi * u)) / 2
        high = FOOT_LIFT * (0.5 + 0.5 * self.events[coming].strength)
        # Highest late in the swing: the foot comes down faster than it goes up.
        return x, high * math.sin(math.pi * u**1.4)

    def _knee(self, hip: Point, ankle: Point, facing: int) -> Point:
        """Return the knee of a leg of two equal bones that bends forward."""
        dx, dy = ankle[0] - hip[0], ankle[1] - hip[1]
        distance = max(math.hypot(dx, dy), 1e-6)
        bend = facing * math.sqrt(max((self.leg / 2) ** 2 - distance**2 / 4, 0.0))
        return hip[0] + dx / 2 - bend * dy / distance, hip[1] + dy / 2 + bend * dx / distance

    def sound(self, rng: np.random.Generator, samples: int, sample_rate_hz: int) -> np.ndarray:
        share, centre_hz, decay_s = SCUFFS[self.ground]
        scuff = filtered_noise(rng, samples, sample_rate_hz, [(60, -40), (centre_hz, 0), (8 * centre_hz, -30)])
        scuff *= bursts(self.events, samples, sample_rate_hz, decay_s=decay_s) * 0.4 * share
        values: np.ndarray = 0.8 * strike_sound(rng, self.body, self.events, samples, sample_rate_hz) + scuff
        return values


def make_walker(rng: np.random.Generator, duration_s: float, setting: Setting) -> Walker:
    """Draw somebody whose shoes sound as the setting's ground does."""
    return Walker(
        step=rng.uniform(0.11, 0.15),
        leg=rng.uniform(0.31, 0.39),
        trousers=pick(rng, ((52, 62, 96), (70, 70, 74), (120, 104, 82), (40, 44, 50))),
        coat=vivid(rng),
        shoes=near(rng, pick(rng, ((50, 36, 30), (224, 222, 216), (150, 40, 40)))),
        ground=setting.ground,
        body=make_body(rng, "boards" if setting.ground in ("planks", "tiles", "plain") else "sole"),
        events=walking_events(rng, duration_s, gap_s=rng.uniform(0.5, 0.8)),
    )
