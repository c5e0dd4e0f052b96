"""A sound in memory: samples, sample rate and channel layout; and its conversion to another sample rate."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import soxr

from mmaudio_model.media.channel_layout import positions


@dataclass(frozen=True, eq=False)
class Sound:
    """A sound: float32 (channels, samples), full scale is 1.0; `layout` is FFmpeg's name of the channels' order.

    Raises:
        ValueError: the array and the layout disagree, or the sample rate is not positive.
    """

    waveform: np.ndarray
    sample_rate_hz: int
    layout: str

    def __post_init__(self) -> None:
        channels = len(positions(self.layout))
        if self.waveform.ndim != 2 or len(self.waveform) != channels:
            raise ValueError(
                f"Got an array of shape {self.waveform.shape}; a sound in the layout {self.layout!r} has the shape "
                f"({channels}, samples)."
            )
        if self.sample_rate_hz <= 0:
            raise ValueError(f"Got a sample rate of {self.sample_rate_hz} Hz; it must be positive.")

    @classmethod
    def mono(cls, waveform: np.ndarray, sample_rate_hz: int) -> Sound:
        """Return a mono sound of an array (samples,)."""
        return cls(np.asarray(waveform, dtype=np.float32)[None], sample_rate_hz, "mono")

    @property
    def channels(self) -> int:
        return len(self.waveform)

    @property
    def samples(self) -> int:
        """The number of samples of each channel."""
        return int(self.waveform.shape[1])

    @property
    def duration_s(self) -> float:
        return self.samples / self.sample_rate_hz


def resampled(sound: Sound, sample_rate_hz: int) -> Sound:
    """Return the sound at another sample rate (soxr, very high quality), aligned to its first sample.

    It has round(samples * new rate / old rate) samples. Peaks between the samples may come out above 1.0.
    """
    if sample_rate_hz == sound.sample_rate_hz:
        return sound
    samples = round(Fraction(sound.samples * sample_rate_hz, sound.sample_rate_hz))
    waveform = np.zeros((sound.channels, samples), dtype=np.float32)
    if sound.samples:
        given = soxr.resample(
            np.ascontiguousarray(sound.waveform.T), sound.sample_rate_hz, sample_rate_hz, quality="VHQ"
        )
        kept = min(samples, len(given))
        waveform[:, :kept] = given[:kept].T
    return Sound(waveform, sample_rate_hz, sound.layout)
