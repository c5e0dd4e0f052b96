"""Log-mel spectrograms as used to train the published autoencoders. Needed only to encode sound."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio_model.variants import AudioMode

MAGNITUDE_EPS = 1e-9
FLOOR = 1e-5
# Slaney's scale (Auditory Toolbox, 1998): linear up to 1 kHz, logarithmic above, 27 bands for a factor of 6.4.
HZ_PER_MEL = 200 / 3
LOG_FROM_HZ = 1000.0
LOG_FROM_MEL = LOG_FROM_HZ / HZ_PER_MEL
MELS_PER_LOG = 27 / math.log(6.4)


class MelSpectrogram(nn.Module):
    """Waveform (B, samples) to log-mel spectrogram (B, bands, samples // hop)."""

    def __init__(self, mode: AudioMode) -> None:
        super().__init__()
        self.n_fft, self.hop, self.log10 = mode.n_fft, mode.hop, mode.log10_mel
        filters = mel_filters(mode.sample_rate_hz, mode.n_fft, mode.mel_bands, mode.mel_max_hz)
        # Not in any checkpoint.
        self.filters = nn.Buffer(filters, persistent=False)
        self.window = nn.Buffer(torch.hann_window(mode.n_fft), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        margin = (self.n_fft - self.hop) // 2
        padded = F.pad(waveform.clamp(-1.0, 1.0), (margin, margin), mode="reflect")
        spectrum = torch.stft(padded, self.n_fft, self.hop, window=self.window, center=False, return_complex=True)
        magnitude = (spectrum.real.square() + spectrum.imag.square() + MAGNITUDE_EPS).sqrt()
        mel = (self.filters @ magnitude).clamp(min=FLOOR)
        return mel.log10() if self.log10 else mel.log()


def mel_filters(sample_rate_hz: int, n_fft: int, bands: int, max_hz: float) -> Tensor:
    """Return triangular filters of equal area, float32 (bands, n_fft // 2 + 1), from 0 Hz to `max_hz`."""
    edges = _hz_of_mel(torch.linspace(0, _mel_of_hz(max_hz), bands + 2, dtype=torch.float64))
    bins = torch.linspace(0, sample_rate_hz / 2, n_fft // 2 + 1, dtype=torch.float64)
    low, centre, high = (edges[start : start + bands, None] for start in range(3))
    triangles = torch.minimum((bins - low) / (centre - low), (high - bins) / (high - centre)).clamp(min=0)
    return (triangles * 2 / (high - low)).float()


def _mel_of_hz(hz: float) -> float:
    return hz / HZ_PER_MEL if hz < LOG_FROM_HZ else LOG_FROM_MEL + MELS_PER_LOG * math.log(hz / LOG_FROM_HZ)


def band_centres_hz(mode: AudioMode) -> Tensor:
    """Return the peak frequency of each band's filter in Hz, float64 (bands,)."""
    return _hz_of_mel(torch.linspace(0, _mel_of_hz(mode.mel_max_hz), mode.mel_bands + 2, dtype=torch.float64))[1:-1]


def _hz_of_mel(mel: Tensor) -> Tensor:
    return torch.where(mel < LOG_FROM_MEL, mel * HZ_PER_MEL, LOG_FROM_HZ * ((mel - LOG_FROM_MEL) / MELS_PER_LOG).exp())
