"""Small pictures of a sound: its waveform's peaks, and its spectrogram as a PNG. The same sound, the same bytes."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import numpy as np
from PIL import Image

from mmaudio_model.media.waveform import Sound

PEAK_PAIRS = 1_000
PEAK_BITS = 8
WIDTH, HEIGHT = 512, 128
MIN_HZ = 40.0
FLOOR_DB = -80.0
MAX_PNG_BYTES = 30_000
WINDOW_S = 0.046
_FRAMES_AT_ONCE = 256
# Shades of the picture, most first: the first number whose file is small enough is taken.
_SHADES = (32, 16, 8, 4)
# From black over violet and orange to a light yellow: brighter is louder, also for people who see fewer colours.
_COLOURS = np.array([(0, 0, 4), (60, 15, 112), (140, 41, 129), (222, 73, 104), (254, 159, 109), (252, 253, 191)], float)


@dataclass(frozen=True)
class Peaks:
    """The lowest and highest values of a waveform in short stretches.

    Attributes:
        samples_per_pair: length of a stretch.
        values: lowest and highest value of each, in turn, from -128 to 127.
    """

    sample_rate_hz: int
    samples_per_pair: int
    values: list[int]

    def as_json(self) -> dict[str, int | list[int]]:
        """Return them as `audiowaveform` writes them (JSON, version 2)."""
        return {
            "version": 2,
            "channels": 1,
            "sample_rate": self.sample_rate_hz,
            "samples_per_pixel": self.samples_per_pair,
            "bits": PEAK_BITS,
            "length": len(self.values) // 2,
            "data": self.values,
        }


@dataclass(frozen=True)
class Spectrogram:
    """A picture: time to the right, frequency up on the mel scale, brighter is louder."""

    png: bytes
    max_hz: float
    width: int = WIDTH
    height: int = HEIGHT
    min_hz: float = MIN_HZ
    floor_db: float = FLOOR_DB


def peaks_of(sound: Sound) -> Peaks:
    """Return the peaks of a sound over all its channels, at most `PEAK_PAIRS` pairs."""
    lowest, highest = sound.waveform.min(axis=0), sound.waveform.max(axis=0)  # (samples,)
    per_pair = max(1, math.ceil(sound.samples / PEAK_PAIRS))
    starts = np.arange(0, sound.samples, per_pair)
    if not len(starts):
        return Peaks(sound.sample_rate_hz, per_pair, [])
    pairs = np.stack([np.minimum.reduceat(lowest, starts), np.maximum.reduceat(highest, starts)], axis=1)
    limit = 2 ** (PEAK_BITS - 1)
    scaled = np.clip(np.rint(np.nan_to_num(pairs) * (limit - 1)), -limit, limit - 1)
    return Peaks(sound.sample_rate_hz, per_pair, scaled.astype(int).ravel().tolist())


def spectrogram_of(sound: Sound) -> Spectrogram:
    """Return the spectrogram of a sound, of all its channels together."""
    levels = _levels_db(sound)
    for shades in _SHADES:
        png = _png(levels, shades)
        if len(png) <= MAX_PNG_BYTES:
            break
    return Spectrogram(png, sound.sample_rate_hz / 2)


def _levels_db(sound: Sound) -> np.ndarray:
    """Return the levels (HEIGHT, WIDTH), loudest 0 dB and not below `FLOOR_DB`; row 0 is the highest frequency."""
    mono = np.nan_to_num(sound.waveform).mean(axis=0)
    size = 2 ** round(math.log2(max(64, WINDOW_S * sound.sample_rate_hz)))
    # As many frames for every column, and close enough together that they leave nothing out.
    per_column = max(1, math.ceil(sound.samples / (WIDTH * size / 2)))
    count = WIDTH * per_column
    centres = (np.arange(count) + 0.5) * sound.samples / count
    padded = np.pad(mono, size)
    starts = np.rint(centres).astype(int) + size - size // 2
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)
    window, bands = np.hanning(size).astype(np.float32), _mel_bands(size, sound.sample_rate_hz)
    power = np.empty((count, HEIGHT))
    for first in range(0, count, _FRAMES_AT_ONCE):
        frames = windows[starts[first : first + _FRAMES_AT_ONCE]] * window
        power[first : first + len(frames)] = np.abs(np.fft.rfft(frames)) ** 2 @ bands
    columns = power.reshape(WIDTH, per_column, HEIGHT).mean(axis=1)
    loudest = columns.max()
    if loudest <= 0:
        return np.full((HEIGHT, WIDTH), FLOOR_DB)
    levels = 10 * np.log10(np.maximum(columns / loudest, 10 ** (FLOOR_DB / 10)))
    return np.ascontiguousarray(levels.T[::-1])


def _mel_bands(size: int, sample_rate_hz: int) -> np.ndarray:
    """Return the weights (size / 2 + 1, HEIGHT) of triangular bands, equally wide on the mel scale."""
    top = sample_rate_hz / 2
    edges = _hz(np.linspace(_mel(np.array(MIN_HZ)), _mel(np.array(top)), HEIGHT + 2))
    bins = np.fft.rfftfreq(size, 1 / sample_rate_hz)[:, None]
    # Low bands are narrower than a bin: each gets at least its neighbours on both sides.
    width = sample_rate_hz / size
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (bins - np.minimum(low, centre - width)) / np.maximum(centre - low, width)
    falling = (np.maximum(high, centre + width) - bins) / np.maximum(high - centre, width)
    weights = np.clip(np.minimum(rising, falling), 0, None)
    return np.asarray(weights / weights.sum(axis=0))


def _mel(hz: np.ndarray) -> np.ndarray:
    return 2595 * np.log10(1 + hz / 700)


def _hz(mel: np.ndarray) -> np.ndarray:
    return np.asarray(700 * (10 ** (mel / 2595) - 1))


def _png(levels: np.ndarray, shades: int) -> bytes:
    indices = np.rint((levels / -FLOOR_DB + 1) * (shades - 1)).astype(np.uint8)
    image = Image.fromarray(indices, mode="P")
    steps = np.linspace(0, len(_COLOURS) - 1, shades)
    palette = np.stack([np.interp(steps, np.arange(len(_COLOURS)), channel) for channel in _COLOURS.T], axis=1)
    image.putpalette(np.rint(palette).astype(np.uint8).tobytes())
    target = io.BytesIO()
    image.save(target, "PNG", optimize=False, compress_level=9, bits=8 if shades > 16 else 4)
    return target.getvalue()
