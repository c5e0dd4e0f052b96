"""Checks what media processes answer: nothing in it is trusted, wherever a file name, a size or a text comes from.

Raises:
    KeyError, TypeError, ValueError, AttributeError: the answer has another form; `sandbox_calls` makes an error of it.
"""

from __future__ import annotations

import math
import stat
from collections.abc import Iterable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from mmaudio_model.media.audio import Sound
from mmaudio_model.media.channel_layout import positions
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.plan import MuxPlan
from mmaudio_model.media.probe import FASTEST_RATE
from workers.media.shared_memory import mapped

LONGEST_TEXT = 2000
MOST_WARNINGS = 64
HIGHEST_SAMPLE_RATE_HZ = 768_000
# A decoder may round the end of a section up to its packet.
LONGER_S = 1.0


def checked_warnings(given: Iterable[Iterable[str]]) -> tuple[MediaWarning, ...]:
    """Return the warnings of an answer, which are pairs of code and text."""
    warnings = [MediaWarning(WarningCode(code), str(text)[:LONGEST_TEXT]) for code, text in given]
    if len(warnings) > MOST_WARNINGS:
        raise ValueError(f"{len(warnings)} warnings")
    return tuple(warnings)


def checked_pixels(descriptor: int, size: int, max_frames: int) -> np.ndarray:
    """Return the frames that a process made, uint8 (T, size, size, 3)."""
    frame_bytes = size * size * 3
    return mapped(descriptor, np.uint8, max_bytes=max_frames * frame_bytes).reshape(-1, size, size, 3)


def checked_sound(facts: dict[str, Any], descriptor: int, *, duration_s: float) -> Sound:
    """Return the sound that a process made, at most about as long as was asked for."""
    rate, layout = int(facts["sample_rate_hz"]), str(facts["layout"])
    if not 0 < rate <= HIGHEST_SAMPLE_RATE_HZ:
        raise ValueError(f"a sample rate of {rate} Hz")
    channels = len(positions(layout))
    samples = math.ceil((duration_s + LONGER_S) * rate)
    waveform = mapped(descriptor, np.float32, max_bytes=samples * channels * 4).reshape(channels, -1)
    if not np.isfinite(waveform).all():
        raise ValueError("the sound has samples that are no numbers")
    return Sound(waveform, rate, layout)


def checked_plan(facts: dict[str, Any]) -> MuxPlan:
    """Return the plan of an answer."""
    plan = MuxPlan.from_json(facts["plan"])
    if not isinstance(plan.timecode, str | None) or not isinstance(plan.reencoded, bool):
        raise TypeError("the plan has values of other types")
    if plan.frame_rate and not 0 < _fraction(plan.frame_rate) <= FASTEST_RATE:
        raise ValueError(f"a frame rate of {plan.frame_rate}")
    return replace(plan, warnings=checked_warnings((warning.code, warning.text) for warning in plan.warnings))


def _fraction(text: str) -> Fraction:
    try:
        return Fraction(text)
    except ZeroDivisionError as exc:
        raise ValueError(f"the fraction {text}") from exc


def take_file(made: Path, target: Path) -> None:
    """Move a file that a process made to its place."""
    facts = made.lstat()
    if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
        raise ValueError("the result is not a regular file with one link")  # a link would publish another file
    made.replace(target)
