"""The setting of a scene: camera, place, colours, light, and silent distractors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mmaudio_model.procedural_world.chance import Colour, near, pick
from mmaudio_model.procedural_world.distractor import Distractor, draw_distractor

PLACES = ("room", "studio", "meadow", "street")
OUTDOORS = ("meadow", "street")
GROUNDS = {
    "room": ("planks", "tiles", "carpet"),
    "studio": ("plain",),
    "meadow": ("grass", "gravel"),
    "street": ("asphalt", "gravel"),
}
GROUND_COLOURS: dict[str, tuple[Colour, ...]] = {
    "planks": ((150, 104, 62), (112, 76, 48), (186, 146, 98)),
    "tiles": ((190, 188, 182), (120, 132, 140), (168, 120, 104)),
    "carpet": ((120, 62, 66), (74, 88, 120), (110, 112, 92)),
    "plain": ((206, 204, 200), (90, 92, 98), (160, 150, 136), (70, 84, 96)),
    "grass": ((96, 138, 62), (122, 150, 80), (86, 116, 60)),
    "gravel": ((150, 142, 130), (132, 120, 104)),
    "asphalt": ((96, 96, 100), (74, 76, 82)),
}
WALL_COLOURS: tuple[Colour, ...] = (
    (214, 200, 176),
    (176, 196, 206),
    (196, 180, 196),
    (148, 166, 142),
    (226, 222, 214),
    (122, 116, 128),
    (202, 164, 138),
)
SKY_COLOURS: tuple[Colour, ...] = ((112, 162, 216), (150, 182, 214), (224, 172, 132), (168, 176, 188))


@dataclass(frozen=True)
class Camera:
    """A camera that sways a little; amplitudes in picture heights, rates in Hz."""

    zoom: float
    ground_at: float
    """Height in the picture of the line on which the subject stands."""
    sway: tuple[float, float]
    rates: tuple[float, float]
    phase: float

    def offset(self, time_s: float) -> tuple[float, float]:
        """Return the camera's shift, (right, up), in picture heights."""
        x = self.sway[0] * math.sin(2 * math.pi * self.rates[0] * time_s + self.phase)
        y = self.sway[1] * math.sin(2 * math.pi * self.rates[1] * time_s + 2 * self.phase)
        return x, y


@dataclass(frozen=True)
class Setting:
    """Everything silent in the picture."""

    place: str
    ground: str
    camera: Camera
    wall: Colour
    floor: Colour
    horizon: float
    """Height of the line where ground meets wall or sky, above the subject's ground line."""
    light: float
    texture_seed: int
    distractors: tuple[Distractor, ...]


def draw_setting(rng: np.random.Generator, places: Sequence[str] = PLACES, *, sky: Colour | None = None) -> Setting:
    """Draw a setting in one of these places; `sky` replaces the drawn colour of sky or wall."""
    place = pick(rng, places)
    ground = pick(rng, GROUNDS[place])
    camera = Camera(
        zoom=rng.uniform(0.9, 1.12),
        ground_at=rng.uniform(0.13, 0.22),
        # One scene in three is on a tripod.
        sway=(0.0, 0.0) if rng.random() < 0.33 else (rng.uniform(0, 0.03), rng.uniform(0, 0.015)),
        rates=(rng.uniform(0.05, 0.3), rng.uniform(0.05, 0.3)),
        phase=rng.uniform(0, 2 * math.pi),
    )
    background = sky or pick(rng, SKY_COLOURS if place in OUTDOORS else WALL_COLOURS)
    return Setting(
        place=place,
        ground=ground,
        camera=camera,
        wall=near(rng, background, 8),
        floor=near(rng, pick(rng, GROUND_COLOURS[ground]), 8),
        horizon=rng.uniform(0.05, 0.13),
        light=rng.uniform(0.75, 1.1),
        texture_seed=int(rng.integers(2**31)),
        distractors=tuple(draw_distractor(rng) for _ in range(int(rng.integers(4)))),
    )
