"""Decoded audio frames of any sample format and layout as float32 sounds of at most eight channels."""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.channel_layout import DEFAULT_LAYOUTS, MAX_CHANNELS, layout_matrix
from mmaudio_model.media.waveform import Sound

MAX_RATE_HZ = 192_000
# Zero and full scale of FFmpeg's interleaved sample formats.
SCALES = {"u8": (128, 2.0**7), "s16": (0, 2.0**15), "s32": (0, 2.0**31), "flt": (0, 1.0), "dbl": (0, 1.0)}
PLACE = re.compile(r"[A-Z]+\d?")
UNPLACED = re.compile(r"NONE|UNK|UNSD|AMBI\d*|USR\d*")


def decoded_sound(frame: AudioFrame) -> Sound:
    """Return a frame's samples; more than eight channels are downmixed to 7.1.

    Raises:
        MediaInvalidError: the frame's sample rate is higher than 192 kHz.
    """
    rate, layout, channels = frame.sample_rate, frame.layout.name, frame.layout.nb_channels
    if not 0 < rate <= MAX_RATE_HZ:
        raise MediaInvalidError(f"The sound has {rate} Hz; at most {MAX_RATE_HZ} Hz can be read.")
    waveform = _waveform(frame, channels)
    places = tuple(channel.name for channel in frame.layout.channels)
    if any(UNPLACED.fullmatch(place) or not PLACE.fullmatch(place) for place in places):
        layout = DEFAULT_LAYOUTS[min(channels, MAX_CHANNELS) - 1]
        return Sound(waveform[:MAX_CHANNELS], rate, layout)
    if channels > MAX_CHANNELS:
        return Sound(layout_matrix(layout, "7.1") @ waveform, rate, "7.1")
    return Sound(waveform, rate, layout)


def duration_of(sound: Sound) -> Fraction:
    """Return the exact duration in seconds."""
    return Fraction(sound.samples, sound.sample_rate_hz)


def _waveform(frame: AudioFrame, channels: int) -> np.ndarray:
    """Return the samples, float32 (channels, samples)."""
    kind = frame.format.packed.name
    planar = frame.format.is_planar
    # PyAV reads beyond the planes of a frame that has eight or more of them.
    if kind not in SCALES or (planar and channels >= MAX_CHANNELS):
        resampler = AudioResampler(format="flt", layout=frame.layout, rate=frame.sample_rate)
        parts = [
            part.to_ndarray().reshape(-1, channels).T
            for part in (*resampler.resample(frame), *resampler.resample(None))
        ]
        return np.concatenate(parts, axis=1).astype(np.float32)
    given: Any = frame.to_ndarray()
    zero, scale = SCALES[kind]
    samples = (given if planar else given.reshape(-1, channels).T).astype(np.float64 if kind == "s32" else np.float32)
    waveform: np.ndarray = ((samples - zero) / scale).astype(np.float32)
    np.nan_to_num(waveform, copy=False)
    return waveform
