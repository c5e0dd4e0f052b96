"""Training of the vocoder: log-mel spectrograms to waveforms, with a multi-resolution spectral loss.

If a VAE is given, half of each batch's spectrograms are VAE reconstructions, as at inference.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
from torch import Tensor, nn

from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.networks.vae import Vae
from mmaudio_model.networks.vocoder import Vocoder
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.initialisation.additive_vocoder import LATE_FRAMES, initialise_as_additive
from mmaudio_model.training.initialisation.defaults import initialise
from mmaudio_model.training.task import Batch, Draw, Losses, draw_clips, waveforms
from mmaudio_model.variants import Variant

CROP_FRAMES = 24
MEL_WEIGHT = 2.0
RESOLUTIONS = ((64, 16), (256, 64), (512, 128), (1024, 256))
"""FFT size and hop in samples. Short windows resolve time, long windows pitch."""
LOG_FLOOR = 1e-4
QUIETEST_RMS = 1e-3
QUIET_SHARE = 0.1


class VocoderTraining(nn.Module):
    """Forward returns the losses of a batch of waveforms."""

    def __init__(self, variant: Variant, vae: Vae | None) -> None:
        super().__init__()
        self.mel = MelSpectrogram(variant.mode)
        self.vocoder = Vocoder(variant.mode.vocoder, variant.mode.mel_bands)
        initialise(self.vocoder, "vocoder")
        initialise_as_additive(self.vocoder, variant.mode)
        self.vae = vae.requires_grad_(False).eval() if vae is not None else None

    def forward(self, batch: Batch) -> Losses:
        waveform = batch["waveform"]
        with torch.no_grad():
            mel = self.mel(waveform)
            if self.vae is not None:
                half = len(mel) // 2
                mean, _ = self.vae.encode(mel[:half])
                mel = torch.cat([self.vae.decode(mean), mel[half:]])
        late = LATE_FRAMES * self.mel.hop
        made, waveform = self.vocoder(mel)[:, 0, late:].float(), waveform[:, :-late]
        with torch.autocast(waveform.device.type, enabled=False):
            spectral = spectral_distance(made, waveform)
            of_mel = (self.mel(made) - self.mel(waveform)).abs().mean()
        return {"loss": spectral + MEL_WEIGHT * of_mel, "spectral": spectral, "mel": of_mel}


class VocoderTask:
    """Trains the vocoder on random crops of the clips' sound; most silent crops are rejected."""

    parts = MappingProxyType({"vocoder": "vocoder"})

    def __init__(self, variant: Variant, shards: Shards, vae: Vae | None = None) -> None:
        self._shards, self._mode = shards, variant.mode
        self.module = VocoderTraining(variant, vae)

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch:
        length = CROP_FRAMES * self._mode.hop
        crops: list[Tensor] = []
        while len(crops) < size:
            (index,) = draw_clips(self._shards, draw, 1, validation=validation)
            (whole,) = waveforms(self._shards, [index])
            start = int(draw.numpy.integers(0, len(whole) - length + 1))
            crop = whole[start : start + length]
            if float(crop.square().mean().sqrt()) > QUIETEST_RMS or draw.numpy.random() < QUIET_SHARE:
                crops.append(crop)
        return {"waveform": torch.stack(crops)}


def spectral_distance(made: Tensor, wanted: Tensor) -> Tensor:
    """Return the mean over resolutions of spectral convergence and log-magnitude distance (arXiv 1910.11480)."""
    total = made.new_zeros(())
    for n_fft, hop in RESOLUTIONS:
        window = torch.hann_window(n_fft, device=made.device)
        ours, theirs = (_magnitude(sound, n_fft, hop, window) for sound in (made, wanted))
        convergence = (ours - theirs).square().sum().sqrt() / theirs.square().sum().sqrt().clamp(min=1e-3)
        logarithmic = ((ours + LOG_FLOOR).log() - (theirs + LOG_FLOOR).log()).abs().mean()
        total = total + convergence + logarithmic
    return total / len(RESOLUTIONS)


def _magnitude(sound: Tensor, n_fft: int, hop: int, window: Tensor) -> Tensor:
    spectrum = torch.stft(sound, n_fft, hop, window=window, return_complex=True)
    out: Tensor = (spectrum.real.square() + spectrum.imag.square() + 1e-10).sqrt() * (2 / n_fft**0.5)
    return out
