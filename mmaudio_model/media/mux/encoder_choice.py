"""Settings of the encoder that is used where a video cannot be copied."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class EncoderSettings:
    """Quality (constant rate factor; lower is better and larger) and speed of the encoder."""

    crf: int = 18
    preset: str = "veryfast"
