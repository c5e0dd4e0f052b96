"""Sounds in the form the metrics need: mono at 16 kHz, and their log-mel spectrograms."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import scipy.signal
import torch
from av.error import FFmpegError

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.variants import MODE_16K

JUDGED_RATE_HZ = 16_000
"""All sounds are resampled to this rate before evaluation."""
SHORTEST_SAMPLES = MODE_16K.n_fft


def at_judged_rate(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """Return a mono waveform at JUDGED_RATE_HZ, float32 (samples,)."""
    if sample_rate_hz != JUDGED_RATE_HZ:
        ratio = Fraction(JUDGED_RATE_HZ, sample_rate_hz)
        waveform = scipy.signal.resample_poly(waveform, ratio.numerator, ratio.denominator)
    return np.asarray(waveform, dtype=np.float32)


def read_sound(path: Path, sample_rate_hz: int = JUDGED_RATE_HZ) -> np.ndarray:
    """Return the sound of a file (sound or video), mixed to mono at a rate, float32 (samples,).

    Raises:
        MediaInvalidError: it has no readable sound.
        OSError: it cannot be opened.
    """
    try:
        with path.open("rb") as file, av.open(file, "r") as container:
            if not container.streams.audio:
                raise MediaInvalidError(f"{path} has no sound.")
            resampler = av.AudioResampler(format="flt", layout="mono", rate=sample_rate_hz)
            frames = [frame for decoded in container.decode(audio=0) for frame in resampler.resample(decoded)]
            frames += resampler.resample(None)
    except FFmpegError as exc:
        raise MediaInvalidError(f"The sound of {path} cannot be read: {exc}.") from exc
    if not frames:
        raise MediaInvalidError(f"{path} has no sound.")
    return np.concatenate([frame.to_ndarray()[0] for frame in frames])


@torch.inference_mode()
def log_mels(waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Return log10-mel spectrograms, float32 (80, samples // 256) each, as used by the 16 kHz models.

    Args:
        waveforms: mono at JUDGED_RATE_HZ; shorter ones than a window are zero-padded.
    """
    mel = MelSpectrogram(MODE_16K)
    filled = (np.pad(one, (0, max(0, SHORTEST_SAMPLES - len(one)))) for one in waveforms)
    return [mel(torch.from_numpy(np.asarray(one, dtype=np.float32))[None])[0].numpy() for one in filled]
