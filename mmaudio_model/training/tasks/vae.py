"""Training of the VAE on log-mel spectrograms: reconstruction and a small KL term.

Filters are normalised in every forward pass, as in EDM2 (arXiv 2312.02696); the checkpoint holds raw filters.
"""

from __future__ import annotations

from types import MappingProxyType

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.networks.vae import MPConv1d, Vae, normalised_filters
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.initialisation.defaults import initialise
from mmaudio_model.training.task import Batch, Draw, Losses, draw_clips, waveforms
from mmaudio_model.variants import Variant

CROP_FRAMES = 256
"""Mel frames of a training crop; even, since a latent token is two of them."""
KL_WEIGHT = 5e-4
LINES_WEIGHT = 4.0
"""Extra loss weight per decade by which a band exceeds its neighbours. Without it the short, rare spectral lines of
glass and metal were smoothed away, and with them the difference to wood."""
NEIGHBOURS = 9
STANDS_OUT_AT_MOST = 2.0
STATISTICS_CLIPS = 256
LOWEST_STD = 0.05


class _NormalisedFilters(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return normalised_filters(weight)


class VaeTraining(nn.Module):
    """Forward returns the losses of a batch of waveforms."""

    def __init__(self, variant: Variant, shards: Shards) -> None:
        super().__init__()
        self.mel = MelSpectrogram(variant.mode)
        self.vae = Vae(variant.mode)
        initialise(self.vae, "vae")
        self.vae.data_mean, self.vae.data_std = mel_statistics(self.mel, shards)
        for module in list(self.vae.modules()):
            if isinstance(module, MPConv1d):
                parametrize.register_parametrization(module, "weight", _NormalisedFilters())

    def forward(self, batch: Batch) -> Losses:
        with torch.autocast(batch["waveform"].device.type, enabled=False):
            mel = self.mel(batch["waveform"])
        mean, std = self.vae.encode(mel)
        decoded = self.vae.decode(mean + std * batch["noise"])
        # In standard deviations of each band, so quiet bands count as much as loud ones.
        error = (decoded - mel) / self.vae.data_std
        weight = 1 + LINES_WEIGHT * lines(mel)
        reconstruction = (weight * (error.abs() + 0.5 * error.square())).mean()
        kl = 0.5 * (mean.square() + std.square() - 1 - 2 * std.clamp(min=1e-6).log()).mean()
        return {"loss": reconstruction + KL_WEIGHT * kl, "reconstruction": reconstruction, "kl": kl}


class VaeTask:
    """Trains the VAE on random crops of the clips' sound."""

    parts = MappingProxyType({"vae": "vae"})

    def __init__(self, variant: Variant, shards: Shards) -> None:
        self._shards, self._mode = shards, variant.mode
        self.module = VaeTraining(variant, shards)

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch:
        whole = waveforms(self._shards, draw_clips(self._shards, draw, size, validation=validation))
        length = min(CROP_FRAMES * self._mode.hop, whole.shape[1] // (2 * self._mode.hop) * 2 * self._mode.hop)
        starts = draw.numpy.integers(0, whole.shape[1] - length + 1, size)
        crops = torch.stack([row[start : start + length] for row, start in zip(whole, starts, strict=True)])
        tokens = length // self._mode.hop // 2
        noise = torch.randn((size, tokens, self._mode.latent_channels), generator=draw.torch)
        return {"waveform": crops, "noise": noise}


def lines(mel: Tensor) -> Tensor:
    """Return by how much each band of a log-mel (B, bands, L) exceeds the mean of its neighbours, clipped to 0..2."""
    around = F.avg_pool1d(mel.transpose(1, 2), NEIGHBOURS, 1, NEIGHBOURS // 2, count_include_pad=False).transpose(1, 2)
    return (mel - around).clamp(0, STANDS_OUT_AT_MOST)


@torch.no_grad()
def mel_statistics(mel: MelSpectrogram, shards: Shards) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each band over the first clips, float32 (1, bands, 1)."""
    count = min(STATISTICS_CLIPS, len(shards))
    values = torch.cat([mel(waveforms(shards, [index])) for index in range(count)])
    return values.mean((0, 2), keepdim=True), values.std((0, 2), keepdim=True).clamp(min=LOWEST_STD)
