"""Scenes: all random parameters of picture, sound and captions, determined by a seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

import numpy as np

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.procedural_world.chance import pick, pick_some
from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.objects.ball import make_ball
from mmaudio_model.procedural_world.objects.car import make_car
from mmaudio_model.procedural_world.objects.clock import make_clock
from mmaudio_model.procedural_world.objects.drum import make_drum
from mmaudio_model.procedural_world.objects.grass import make_grass
from mmaudio_model.procedural_world.objects.hammer import make_hammer
from mmaudio_model.procedural_world.objects.patrol import make_patrol
from mmaudio_model.procedural_world.objects.rain import RAIN_SKY, make_rain
from mmaudio_model.procedural_world.objects.stillness import make_stillness
from mmaudio_model.procedural_world.objects.subject import Subject
from mmaudio_model.procedural_world.objects.walker import make_walker
from mmaudio_model.procedural_world.setting import Setting, draw_setting

HELD_OUT_FROM = 1_000_000
"""Seeds from this one on are for evaluation only, not for training or tuning."""
CAPTIONS = 5

SubjectMaker = Callable[[np.random.Generator, float, Setting], Subject]
_MAKERS: Mapping[str, tuple[SubjectMaker, Callable[[np.random.Generator], Setting]]] = MappingProxyType(
    {
        "ball_wood": (partial(make_ball, material="wood"), draw_setting),
        "ball_metal": (partial(make_ball, material="metal"), draw_setting),
        "ball_glass": (partial(make_ball, material="glass"), draw_setting),
        "ball_rubber": (partial(make_ball, material="rubber"), draw_setting),
        "hammer": (make_hammer, draw_setting),
        "footsteps": (make_walker, draw_setting),
        "drum": (make_drum, draw_setting),
        "rain": (make_rain, partial(draw_setting, places=("meadow", "street"), sky=RAIN_SKY)),
        "wind": (make_grass, partial(draw_setting, places=("meadow",))),
        "engine": (make_car, partial(draw_setting, places=("street",))),
        "siren": (make_patrol, partial(draw_setting, places=("street",))),
        "clock": (make_clock, partial(draw_setting, places=("room", "studio"))),
        "silence": (make_stillness, draw_setting),
    }
)
CLASSES: tuple[str, ...] = tuple(_MAKERS)
IMPACT_CLASSES: frozenset[str] = frozenset(
    {"ball_wood", "ball_metal", "ball_glass", "ball_rubber", "hammer", "footsteps", "drum", "clock"}
)
"""Classes whose sound is a series of impacts, listed in `Scene.events`. The others have no events."""


@dataclass(frozen=True)
class Scene:
    """One scene of the world. Frozen and hashable: the same seed gives an equal scene."""

    seed: int
    class_name: str
    duration_s: float
    events: tuple[Event, ...]
    """Impacts in time order: onsets in the sound and contacts in the picture."""
    captions: tuple[str, ...]
    """Different descriptions; the first is the simplest."""
    subject: Subject
    setting: Setting

    @property
    def held_out(self) -> bool:
        return self.seed >= HELD_OUT_FROM


def make_scene(seed: int, *, duration_s: float = 8.0, class_name: str | None = None) -> Scene:
    """Return the scene of a seed, the same on every machine.

    Args:
        duration_s: length of the clip; another duration gives another scene, not a longer version.
        class_name: one of CLASSES; drawn by the seed if None.

    Raises:
        RequestInvalidError: the seed is negative, the class unknown, or the duration below half a second.
    """
    if seed < 0:
        raise RequestInvalidError(f"Got seed {seed}; seeds are 0 or more.")
    if class_name is not None and class_name not in CLASSES:
        raise RequestInvalidError(f"Got class {class_name!r}; there are {', '.join(CLASSES)}.")
    if not duration_s >= 0.5:
        raise RequestInvalidError(f"Got a duration of {duration_s} s; a scene lasts at least 0.5 s.")
    rng = np.random.default_rng(seed)
    drawn = pick(rng, CLASSES)
    name = class_name or drawn
    make_subject, make_setting = _MAKERS[name]
    setting = make_setting(rng)
    subject = make_subject(rng, duration_s, setting)
    plainest, *others = subject.captions()
    captions = (plainest, *pick_some(rng, others, CAPTIONS - 1))
    return Scene(seed, name, duration_s, subject.events, captions, subject, setting)
