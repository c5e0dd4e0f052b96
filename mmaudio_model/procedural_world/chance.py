"""Random choices and colours. Uses only the generator methods `random`, `uniform` and `integers`, which are stable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

Colour = tuple[int, int, int]
"""RGB, 0..255."""
T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """Return one of the options, all equally likely."""
    return options[int(rng.integers(len(options)))]


def pick_some(rng: np.random.Generator, options: Sequence[T], count: int) -> tuple[T, ...]:
    """Return `count` different options in random order (all of them if there are fewer)."""
    left = list(options)
    return tuple(left.pop(int(rng.integers(len(left)))) for _ in range(min(count, len(left))))


def near(rng: np.random.Generator, colour: Colour, spread: float = 22.0) -> Colour:
    """Return a colour close to the given one."""
    red, green, blue = (int(min(max(part + rng.uniform(-spread, spread), 0), 255)) for part in colour)
    return red, green, blue


def vivid(rng: np.random.Generator) -> Colour:
    """Return a saturated colour of any hue."""
    return near(rng, pick(rng, ((214, 58, 48), (236, 138, 34), (64, 160, 72), (52, 98, 206), (170, 62, 176))))


def shade(colour: Colour, factor: float) -> Colour:
    """Return the colour darker (factor < 1) or lighter (> 1, towards white)."""
    if factor <= 1:
        red, green, blue = (int(part * factor) for part in colour)
    else:
        red, green, blue = (int(255 - (255 - part) / factor) for part in colour)
    return red, green, blue
