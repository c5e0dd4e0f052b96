"""One kind of file of the collection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path


@dataclass(frozen=True)
class Kind:
    """A kind of file, and how one is made.

    Attributes:
        name: the file's name; it is unique.
        source: what makes such files.
        make: writes one.
        refused: a part of the sentence that refuses it; None: it is taken.
        says: a part of a warning that reading it gives.
        still: it is a picture, not a video.
        off_keyframe_s: a start that is no key frame and between two frames.
        size: width and height of a still picture.
        section_s: how much is asked for from there.
    """

    name: str
    source: str
    make: Callable[[Path], object]
    refused: str | None = None
    says: str | None = None
    still: bool = False
    size: tuple[int, int] = (96, 64)
    off_keyframe_s: Fraction = Fraction(83, 100)
    section_s: Fraction = Fraction(1, 2)
