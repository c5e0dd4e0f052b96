"""The 1-D variational autoencoder between log-mel spectrograms and latents. Tensors are (B, C, L).

Magnitude preserving after EDM2 (Karras et al. 2024, arXiv 2312.02696): filters of unit norm, sums and activations that
keep the variance. Checkpoints hold raw filters; `fold_weights` normalises them once after loading.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio_model.variants import AudioMode

CLAMP = 256.0
NORM_EPS = 1e-4


def unit_norm(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Divide by the root mean square over `dims`, taken in float32."""
    norm = torch.linalg.vector_norm(x, dim=dims, keepdim=True, dtype=torch.float32)
    count = math.prod(x.shape[dim] for dim in dims)
    out: Tensor = x / (NORM_EPS + norm / math.sqrt(count)).to(x.dtype)
    return out


def normalised_filters(weight: Tensor) -> Tensor:
    """Return filters (out, in, taps) of unit norm."""
    return unit_norm(weight, (1, 2)) / math.sqrt(weight[0].numel())


def mp_silu(x: Tensor) -> Tensor:
    return F.silu(x) / 0.596


def mp_sum(a: Tensor, b: Tensor, t: float = 0.3) -> Tensor:
    return a.lerp(b, t) / math.sqrt((1 - t) ** 2 + t**2)


class MPConv1d(nn.Module):
    """A zero-padded convolution without bias; its filters have unit norm after `fold_weights`."""

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        return F.conv1d(x, self.weight * gain, padding=self.weight.shape[-1] // 2)

    @torch.no_grad()
    def fold_weights(self) -> None:
        self.weight.copy_(normalised_filters(self.weight.float()))


class ResidualBlock(nn.Module):
    """Two convolutions beside a shortcut; the shortcut starts from the normalised input."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = MPConv1d(in_channels, out_channels, 3)
        self.conv2 = MPConv1d(out_channels, out_channels, 3)
        self.nin_shortcut = MPConv1d(in_channels, out_channels, 1) if in_channels != out_channels else None

    def forward(self, x: Tensor) -> Tensor:
        x = unit_norm(x, (1,))
        h = self.conv2(mp_silu(self.conv1(mp_silu(x))))
        if self.nin_shortcut is not None:
            x = self.nin_shortcut(x)
        return mp_sum(x, h)


class AttentionBlock(nn.Module):
    """One head over all positions, cosine attention."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.qkv = MPConv1d(channels, 3 * channels, 1)
        self.proj_out = MPConv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        # Output channels interleave q, k and v fastest.
        q, k, v = unit_norm(self.qkv(x).unflatten(1, (-1, 3)), (1,)).permute(2, 0, 3, 1).unsqueeze(2)  # (B, 1, L, C)
        attended = F.scaled_dot_product_attention(q, k, v)
        return mp_sum(x, self.proj_out(attended.squeeze(1).transpose(1, 2)))


class Downsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = MPConv1d(channels, channels, 1)
        self.conv2 = MPConv1d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv2(F.avg_pool1d(self.conv1(x), kernel_size=2, stride=2))
        return out


class Upsample(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = MPConv1d(channels, channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x.repeat_interleave(2, dim=-1))
        return out


class Level(nn.Module):
    """Residual blocks of one resolution, then the change to the next resolution, if there is one."""

    def __init__(
        self, widths: list[int], *, downsample: Downsample | None = None, upsample: Upsample | None = None
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(ResidualBlock(before, after) for before, after in pairwise(widths))
        self.downsample, self.upsample = downsample, upsample

    def forward(self, h: Tensor) -> Tensor:
        for block in self.block:
            h = block(h).clamp(-CLAMP, CLAMP)
        for resample in (self.downsample, self.upsample):
            if resample is not None:
                h = resample(h)
        return h


class Middle(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block_1 = ResidualBlock(channels, channels)
        self.attn_1 = AttentionBlock(channels)
        self.block_2 = ResidualBlock(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.block_2(self.attn_1(self.block_1(x)))
        return out


class Encoder(nn.Module):
    """Normalised mel (B, bands, L) to mean and log-variance (B, 2C, L // 2)."""

    def __init__(self, mode: AudioMode) -> None:
        super().__init__()
        widths = [mode.vae.base_width * factor for factor in mode.vae.width_factors]
        self.conv_in = MPConv1d(mode.mel_bands, widths[0], 3)
        self.down = nn.ModuleList()
        before = widths[0]
        for index, width in enumerate(widths):
            widths_inside = [before] + [width] * mode.vae.encoder_blocks
            self.down.append(Level(widths_inside, downsample=Downsample(width) if index == 0 else None))
            before = width
        self.mid = Middle(before)
        self.conv_out = MPConv1d(before, 2 * mode.latent_channels, 3)
        self.learnable_gain = nn.Parameter(torch.zeros([]))

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv_in(x)
        for level in self.down:
            h = level(h)
        h = self.mid(h).clamp(-CLAMP, CLAMP)
        out: Tensor = self.conv_out(mp_silu(h), gain=self.learnable_gain + 1)
        return out


class Decoder(nn.Module):
    """Latent (B, C, N) to normalised mel (B, bands, 2N)."""

    def __init__(self, mode: AudioMode) -> None:
        super().__init__()
        widths = [mode.vae.base_width * factor for factor in mode.vae.width_factors]
        before = widths[-1]
        self.conv_in = MPConv1d(mode.latent_channels, before, 3)
        self.mid = Middle(before)
        levels = []
        for index, width in reversed(list(enumerate(widths))):
            widths_inside = [before] + [width] * (mode.vae.encoder_blocks + 1)
            levels.append(Level(widths_inside, upsample=Upsample(width) if index == 1 else None))
            before = width
        self.up = nn.ModuleList(reversed(levels))  # index 0 is the finest
        self.conv_out = MPConv1d(before, mode.mel_bands, 3)
        self.learnable_gain = nn.Parameter(torch.zeros([]))

    def forward(self, z: Tensor) -> Tensor:
        h = self.mid(self.conv_in(z)).clamp(-CLAMP, CLAMP)
        for level in reversed(self.up):
            h = level(h)
        out: Tensor = self.conv_out(mp_silu(h), gain=self.learnable_gain + 1)
        return out


class Vae(nn.Module):
    """Encoder, decoder and the statistics of the mel bands.

    Args:
        with_encoder: not needed to decode latents.
    """

    def __init__(self, mode: AudioMode, *, with_encoder: bool = True) -> None:
        super().__init__()
        if with_encoder:
            self.encoder = Encoder(mode)
        self.decoder = Decoder(mode)
        self.data_mean: Tensor = nn.Buffer(torch.zeros(1, mode.mel_bands, 1))
        self.data_std: Tensor = nn.Buffer(torch.ones(1, mode.mel_bands, 1))

    def decode(self, latent: Tensor) -> Tensor:
        """Return the log-mel spectrogram (B, bands, 2N) of a latent (B, N, C)."""
        out: Tensor = self.decoder(latent.transpose(1, 2)) * self.data_std + self.data_mean
        return out

    def encode(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation, each (B, N, C), of the latent of a log-mel spectrogram (B, bands, L)."""
        mean, log_variance = self.encoder((mel - self.data_mean) / self.data_std).transpose(1, 2).chunk(2, dim=-1)
        return mean, (0.5 * log_variance.clamp(-30.0, 20.0)).exp()

    def fold_weights(self) -> None:
        """Normalise all filters. Call once after loading a checkpoint, in float32."""
        for module in self.modules():
            if isinstance(module, MPConv1d):
                module.fold_weights()
