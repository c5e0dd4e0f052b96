"""BigVGAN: from log-mel spectrograms to waveforms (Lee et al. 2023, arXiv 2206.04658). Tensors are (B, C, L).

One class covers the first version (16 kHz) and NVIDIA's second (44.1 kHz), which differ in rates and output layer.
"""

from __future__ import annotations

import math
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization, remove_parametrizations

from mmaudio_model.variants import VocoderSizes

FILTER_TAPS = 12
SNAKE_EPS = 1e-9


@cache
def antialias_filter() -> Tensor:
    """Return the activations' low-pass filter, (1, 1, 12): Kaiser window, cutoff a quarter of the rate, unit gain."""
    with torch.device("cpu"):  # also under `meta`, where torch would take seconds to trace this
        return _antialias_filter()


def _antialias_filter() -> Tensor:
    half = FILTER_TAPS // 2
    attenuation = 2.285 * (half - 1) * math.pi * (4 * 0.3) + 7.95
    beta = 0.1102 * (attenuation - 8.7)
    n = torch.arange(FILTER_TAPS, dtype=torch.float64) - (FILTER_TAPS - 1) / 2
    taps = torch.kaiser_window(FILTER_TAPS, periodic=False, beta=beta, dtype=torch.float64) * torch.sinc(0.5 * n)
    return (taps / taps.sum()).float().view(1, 1, -1)


class SnakeBeta(nn.Module):
    """x + sin(x e^alpha)^2 / e^beta, channel by channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        alpha, beta = self.alpha.exp()[:, None], self.beta.exp()[:, None]
        return x + (x * alpha).sin().square() / (beta + SNAKE_EPS)


class _LowPass(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Buffer(antialias_filter().clone())


class _Upsample(_LowPass):
    """Upsamples by two: transposed convolution with the low-pass filter."""

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = F.pad(x, (5, 5), mode="replicate")
        x = 2 * F.conv_transpose1d(x, self.filter.expand(channels, -1, -1), stride=2, groups=channels)
        return x[..., 15:-15]


class _Downsample(nn.Module):
    """Downsamples by two: convolution with the low-pass filter."""

    def __init__(self) -> None:
        super().__init__()
        self.lowpass = _LowPass()

    def forward(self, x: Tensor) -> Tensor:
        channels = x.shape[1]
        x = F.pad(x, (5, 6), mode="replicate")
        return F.conv1d(x, self.lowpass.filter.expand(channels, -1, -1), stride=2, groups=channels)


class AntialiasedSnake(nn.Module):
    """SnakeBeta at twice the rate, so that its harmonics do not alias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.act = SnakeBeta(channels)
        self.upsample = _Upsample()
        self.downsample = _Downsample()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.downsample(self.act(self.upsample(x)))
        return out


class WeightNorm(nn.Module):
    """Splits a filter into norm and direction, one norm per row (Salimans & Kingma 2016, arXiv 1602.07868).

    It does what `torch.nn.utils.parametrizations.weight_norm` does. That one computes norms under `meta` as well,
    for which torch imports its compiler: 3 s of CPU each time a process loads a model.
    """

    def forward(self, norm: Tensor, direction: Tensor) -> Tensor:
        return torch._weight_norm(direction, norm, 0)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        if weight.is_meta:
            return torch.empty(len(weight), *(1 for _ in weight.shape[1:]), device="meta", dtype=weight.dtype), weight
        return torch.norm_except_dim(weight, 2, 0), weight

    @classmethod
    def attach(cls, convolution: nn.Module) -> None:
        """Split the convolution's filter; its checkpoints may have the names of before torch 2.0."""
        register_parametrization(convolution, "weight", cls(), unsafe=True)
        convolution.register_load_state_dict_pre_hook(_rename_old_keys)


def _rename_old_keys(_module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    for new, old in (("original0", "weight_g"), ("original1", "weight_v")):
        if f"{prefix}{old}" in state:
            state[f"{prefix}parametrizations.weight.{new}"] = state.pop(f"{prefix}{old}")


def _conv(channels_in: int, channels_out: int, kernel: int, *, dilation: int = 1, bias: bool = True) -> nn.Conv1d:
    padding = dilation * (kernel - 1) // 2
    return nn.Conv1d(channels_in, channels_out, kernel, dilation=dilation, padding=padding, bias=bias)


class AmpBlock(nn.Module):
    """Residual pairs of convolutions with growing dilation, each after an anti-aliased activation."""

    def __init__(self, channels: int, kernel: int, dilations: tuple[int, ...]) -> None:
        super().__init__()
        self.convs1 = nn.ModuleList(_conv(channels, channels, kernel, dilation=d) for d in dilations)
        self.convs2 = nn.ModuleList(_conv(channels, channels, kernel) for _ in dilations)
        self.activations = nn.ModuleList(AntialiasedSnake(channels) for _ in range(2 * len(dilations)))

    def forward(self, x: Tensor) -> Tensor:
        for index, (conv1, conv2) in enumerate(zip(self.convs1, self.convs2, strict=True)):
            h = conv1(self.activations[2 * index](x))
            x = x + conv2(self.activations[2 * index + 1](h))
        return x


class Vocoder(nn.Module):
    """Log-mel (B, bands, L) to waveform (B, 1, L * product of rates) in [-1, 1].

    Args:
        folded: plain filters, as after `fold_weights`; otherwise weight-normalised, as published.
    """

    def __init__(self, sizes: VocoderSizes, mel_bands: int, *, folded: bool = False) -> None:
        super().__init__()
        self.sizes = sizes
        channels = sizes.initial_channels
        self.conv_pre = _conv(mel_bands, channels, 7)
        self.ups = nn.ModuleList()
        self.resblocks = nn.ModuleList()
        for rate, kernel in zip(sizes.rates, sizes.kernels, strict=True):
            transposed = nn.ConvTranspose1d(channels, channels // 2, kernel, rate, padding=(kernel - rate) // 2)
            self.ups.append(nn.ModuleList([transposed]))
            channels //= 2
            self.resblocks.extend(AmpBlock(channels, size, sizes.dilations) for size in sizes.block_kernels)
        self.activation_post = AntialiasedSnake(channels)
        self.conv_post = _conv(channels, 1, 7, bias=sizes.bias_at_final)
        if not folded:
            for module in list(self.modules()):
                if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
                    WeightNorm.attach(module)

    def forward(self, mel: Tensor) -> Tensor:
        x = self.conv_pre(mel)
        a_stage = len(self.sizes.block_kernels)
        for index in range(len(self.ups)):
            x = self.upsampling(index)(x)
            blocks = self.resblocks[index * a_stage : (index + 1) * a_stage]
            x = sum(block(x) for block in blocks) / a_stage
        x = self.conv_post(self.activation_post(x))
        out: Tensor = x.tanh() if self.sizes.tanh_at_final else x.clamp(-1.0, 1.0)
        return out

    def upsampling(self, stage: int) -> nn.ConvTranspose1d:
        """Return the transposed convolution of a stage; the published keys nest it in a list of one."""
        nested = self.ups[stage]
        assert isinstance(nested, nn.ModuleList)
        convolution = nested[0]
        assert isinstance(convolution, nn.ConvTranspose1d)
        return convolution

    def fold_weights(self) -> None:
        """Turn weight-normalised filters into plain ones. Call once after loading a checkpoint, in float32."""
        for module in list(self.modules()):
            if hasattr(module, "parametrizations"):
                remove_parametrizations(module, "weight")
