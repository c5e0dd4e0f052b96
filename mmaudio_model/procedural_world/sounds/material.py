"""Materials: frequencies and damping of the modes of struck bodies."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from mmaudio_model.procedural_world.sounds.modal import Body


@dataclass(frozen=True)
class Material:
    """Modes as ratios to the lowest; ranges are drawn per body. Times in seconds at the lowest mode."""

    lowest_hz: tuple[float, float]
    ratios: tuple[float, ...]
    t60_s: tuple[float, float]
    damping: float
    """Damping exponent: t60 falls with ratio ** -damping."""
    tilt: float
    """Spectral tilt: the weight falls with ratio ** -tilt."""
    contact_s: float
    click: float


# Bar modes for wood, shells for metal and glass, a membrane for the drum (Fletcher and Rossing's tables, roughly).
_BAR = (1.0, 2.76, 5.4, 8.93)
_SHELL = (1.0, 1.52, 1.98, 2.74, 3.31, 4.17, 5.2, 6.63)
_MEMBRANE = (1.0, 1.59, 2.14, 2.3, 2.65, 2.92, 3.5, 4.06)

MATERIALS = MappingProxyType(
    {
        "wood": Material((340, 620), _BAR, (0.07, 0.13), 0.6, 0.7, 0.0006, 0.5),
        "metal": Material((620, 1150), _SHELL, (0.9, 1.6), 0.35, 0.15, 0.00008, 0.25),
        "glass": Material((1750, 2700), (1.0, 1.41, 2.07, 2.32, 2.9, 3.4), (0.22, 0.42), 0.5, 0.3, 0.00004, 0.35),
        "rubber": Material((75, 140), (1.0, 1.7, 2.6, 4.1), (0.09, 0.16), 0.9, 1.0, 0.003, 0.12),
        "nail": Material((2300, 3300), (1.0, 1.37, 1.9, 2.2), (0.07, 0.14), 0.4, 0.2, 0.00006, 0.9),
        "bench": Material((150, 240), _BAR, (0.1, 0.16), 0.7, 0.9, 0.0012, 0.2),
        "membrane": Material((85, 190), _MEMBRANE, (0.35, 0.6), 0.7, 0.8, 0.0014, 0.25),
        "sole": Material((85, 150), (1.0, 1.9, 3.1), (0.07, 0.12), 0.6, 0.9, 0.002, 0.35),
        "boards": Material((170, 260), _BAR, (0.08, 0.14), 0.6, 0.7, 0.001, 0.35),
        "escapement": Material((2100, 3400), (1.0, 1.31, 1.83, 2.2), (0.03, 0.06), 0.3, 0.1, 0.00005, 0.7),
    }
)


def make_body(rng: np.random.Generator, material: str, *, size: float = 1.0) -> Body:
    """Draw a body of this material; `size` 2 is twice as long and rings an octave lower."""
    made_of = MATERIALS[material]
    lowest = rng.uniform(*made_of.lowest_hz) / size
    t60 = rng.uniform(*made_of.t60_s)
    modes = []
    for ratio in made_of.ratios:
        detuned = ratio * rng.uniform(0.985, 1.015)
        weight = rng.uniform(0.6, 1.0) * ratio**-made_of.tilt
        modes.append((round(lowest * detuned, 3), round(t60 * ratio**-made_of.damping, 5), round(weight, 5)))
    return Body(tuple(modes), made_of.contact_s, made_of.click)
