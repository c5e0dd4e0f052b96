"""Initial weights that make a small vocoder an additive synthesiser: one sine per multiple of the frame rate.

From random weights, a vocoder learns envelopes in minutes and pitch in days. With these weights its output already has
the spectrum of the input, spectral lines included: 128 sines of fixed frequencies whose amplitudes follow the log-mel
spectrogram. Sines at multiples of the frame rate have the same phase in every frame, so one filter generates each.

For rates of (1, a, b): the channels of the first stage are the sines' amplitudes at the frame rate, those of the second
the sums per frequency band at a times that rate (real and imaginary parts), those of the third the waveforms of the
bands. Neighbouring bands overlap by half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.signal import firwin
from torch import Tensor, nn

from mmaudio_model.networks.mel import band_centres_hz
from mmaudio_model.networks.vocoder import AmpBlock, AntialiasedSnake, SnakeBeta, Vocoder
from mmaudio_model.variants import AudioMode


@dataclass(frozen=True)
class Curve:
    """The function of one pair of a residual block: x -> x^2 + bend x^4, scaled so that 1 maps to `loudest`."""

    bend: float
    loudest: float


QUIETEST = -5.2
"""log10 mel at which the curve starts; the quietest audible level is a decade above."""
INPUT_SCALE = 1e-4
"""Activation of a log10 mel of 0 in the first stage before the curves; small enough to be negligible beside them."""
CURVES = (Curve(bend=10.0, loudest=3e-3), Curve(bend=1.0, loudest=3e3))
"""u -> u^2 + 10 u^4, then v -> v^2 + v^4: approximates 10^mel from -5 to 0.3 to within a quarter of a decade."""
AMPLITUDE = 0.15
"""Amplitude of each sine at a log10 mel of 0."""
THIRD_GAIN, LAST_GAIN = 0.1, 0.1
"""Gains of the third stage and the last filter; the second stage supplies the rest."""
RANGE = 0.3
"""Range in which sin(x) is close to x."""
SMALL = 1e-4
"""Share of the random initial weights that is kept, so that channels differ."""
NEGLIGIBLE = 1e-5
"""Factor for filters that should be zero: negligible after `SMALL`, but weight normalisation needs a direction."""
BANDS_A_RATE = 2
"""Bands overlap by half, so that each sine is well inside one."""
DELAY_TAP = 2
"""Index of the tap, out of three, that delays by a frame. A frame's analysis window includes an impact two frames
before its centre, so a synthesiser without delay would be early. Training compensates by `LATE_FRAMES`."""
LATE_FRAMES = 1


@torch.no_grad()
def initialise_as_additive(vocoder: Vocoder, mode: AudioMode) -> None:
    """Set the filters of a randomly initialised vocoder.

    Freezes the first stage: the first training steps would destroy its steep curves.

    Raises:
        ValueError: the rates are not (1, a, b), or there are too few channels for the bands.
    """
    sizes = vocoder.sizes
    if len(sizes.rates) != 3 or sizes.rates[0] != 1 or len(sizes.dilations) < len(CURVES):
        raise ValueError(
            f"Got rates {sizes.rates} and dilations {sizes.dilations}; "
            "the additive initialisation needs rates (1, a, b) and at least two dilations."
        )
    _, rate, last_rate = sizes.rates
    sines, bands = sizes.initial_channels // 2, BANDS_A_RATE * last_rate // 2 + 1
    if 2 * bands > sizes.initial_channels // 4:
        raise ValueError(f"Got {sizes.initial_channels} channels; {bands} bands need {8 * bands}.")
    frame_hz = mode.sample_rate_hz / mode.hop
    hz = frame_hz * torch.arange(1, sines + 1, dtype=torch.float64)
    _set_amplitudes(vocoder, mode, hz)
    band_hz = frame_hz * rate / BANDS_A_RATE
    band = (hz / band_hz).round().long()
    _set_sines(vocoder.upsampling(1), hz, band, rate_hz=frame_hz * rate)
    _set_band_waveforms(vocoder.upsampling(2), band_hz * torch.arange(bands, dtype=torch.float64), mode.sample_rate_hz)
    for block in vocoder.resblocks[len(sizes.block_kernels) :]:
        assert isinstance(block, AmpBlock)
        for conv in _convolutions(block.convs2):
            conv.weight = conv.weight * SMALL
        for conv in (*_convolutions(block.convs1), *_convolutions(block.convs2)):
            _fill_bias(conv, 0.0)
    vocoder.activation_post.act.alpha.fill_(math.log(0.1))
    sum_up = vocoder.conv_post.weight * SMALL
    sum_up[0, :bands, sum_up.shape[-1] // 2] += LAST_GAIN
    vocoder.conv_post.weight = sum_up
    _fill_bias(vocoder.conv_post, 0.0)
    for name, direction in vocoder.named_parameters():
        if name.endswith("weight.original1"):
            # A unit norm is large against a training step and representable in half precision.
            direction.div_(direction.square().mean((1, 2), keepdim=True).sqrt())
    for module in (vocoder.conv_pre, vocoder.ups[0], *vocoder.resblocks[: len(sizes.block_kernels)]):
        module.requires_grad_(False)


def _set_amplitudes(vocoder: Vocoder, mode: AudioMode, hz: Tensor) -> None:
    """Make the first stage's channels the sines' amplitudes: 10 to the power of the log-mel at their frequencies.

    The activation x + sin(alpha x)^2 / beta is, for small angles and small beta, dominated by a square. Two in a row,
    in two pairs, approximate an exponential.
    """
    level = -INPUT_SCALE / QUIETEST
    vocoder.conv_pre.weight = _add_at_tap(
        vocoder.conv_pre.weight * INPUT_SCALE, level * _interpolation(band_centres_hz(mode), hz)
    )
    _fill_bias(vocoder.conv_pre, INPUT_SCALE)
    up = vocoder.upsampling(0)
    same = torch.eye(len(hz))
    up.weight = _add_at_tap(up.weight, same, tap=DELAY_TAP)
    _fill_bias(up, 0.0)
    for block in vocoder.resblocks[: len(vocoder.sizes.block_kernels)]:
        assert isinstance(block, AmpBlock)
        loudest = INPUT_SCALE
        for index, (conv1, conv2) in enumerate(
            zip(_convolutions(block.convs1), _convolutions(block.convs2), strict=True)
        ):
            conv1.weight, conv2.weight = _middle_tap(conv1.weight, same), _middle_tap(conv2.weight, 0 * same)
            _fill_bias(conv1, 0.0)
            _fill_bias(conv2, 0.0)
            if index < len(CURVES):
                curve = CURVES[index]
                _square(_snake(block, 2 * index), RANGE / loudest, 1.0)
                _square(_snake(block, 2 * index + 1), RANGE, curve.bend)
                conv2.weight = _middle_tap(conv2.weight, same * curve.loudest / (1 + curve.bend))
                loudest = curve.loudest


def _convolutions(modules: nn.ModuleList) -> list[nn.Conv1d]:
    convolutions = [module for module in modules if isinstance(module, nn.Conv1d)]
    assert len(convolutions) == len(modules)
    return convolutions


def _snake(block: AmpBlock, index: int) -> SnakeBeta:
    activation = block.activations[index]
    assert isinstance(activation, AntialiasedSnake)
    return activation.act


def _fill_bias(convolution: nn.Conv1d | nn.ConvTranspose1d, value: float) -> None:
    if convolution.bias is not None:
        convolution.bias.fill_(value)


def _square(snake: SnakeBeta, alpha: float, of_range: float) -> None:
    """Make an activation add `of_range` times the square of its input relative to its range."""
    snake.alpha.fill_(math.log(alpha))
    snake.beta.fill_(math.log(RANGE**2 / of_range))


def _middle_tap(filters: Tensor, matrix: Tensor) -> Tensor:
    """Return filters with the matrix in the middle tap and negligible values elsewhere."""
    return _add_at_tap(filters * NEGLIGIBLE, matrix)


def _add_at_tap(filters: Tensor, matrix: Tensor, tap: int | None = None) -> Tensor:
    """Return scaled-down filters with the matrix added at a tap (default: the middle one)."""
    filters = filters * SMALL
    rows, columns = matrix.shape
    filters[:rows, :columns, filters.shape[-1] // 2 if tap is None else tap] += matrix.to(filters.dtype)
    return filters


def _interpolation(centres_hz: Tensor, hz: Tensor) -> Tensor:
    """Return weights (frequencies, bands) that interpolate each frequency's level from the two nearest bands."""
    above = torch.searchsorted(centres_hz, hz).clamp(1, len(centres_hz) - 1)
    low, high = centres_hz[above - 1], centres_hz[above]
    share = ((hz - low) / (high - low)).clamp(0, 1)
    weights = torch.zeros(len(hz), len(centres_hz), dtype=torch.float64)
    rows = torch.arange(len(hz))
    weights[rows, above - 1] = 1 - share
    weights[rows, above] += share
    return weights


def _set_sines(up: nn.ConvTranspose1d, hz: Tensor, band: Tensor, *, rate_hz: float) -> None:
    """Make each sine a windowed wave in the two channels of its band; overlapping frames add up to a steady wave."""
    filters = up.weight * SMALL
    taps = filters.shape[-1]
    moment = torch.arange(taps, dtype=torch.float64) - int(up.padding[0])
    window = torch.sin(math.pi * (torch.arange(taps, dtype=torch.float64) + 0.5) / taps).square()
    # Spread phases keep the peaks low; derived from the golden ratio, they are the same on every machine.
    phase = 2 * math.pi * (torch.arange(len(hz), dtype=torch.float64) ** 2 * 0.6180339887 % 1)
    gain = AMPLITUDE / (CURVES[-1].loudest * THIRD_GAIN * LAST_GAIN)
    angle = 2 * math.pi * hz[:, None] * moment / rate_hz + phase[:, None]
    rows = torch.arange(len(hz))
    filters[rows, 2 * band] += (gain * window * angle.cos()).to(filters.dtype)
    filters[rows, 2 * band + 1] += (gain * window * angle.sin()).to(filters.dtype)
    up.weight = filters
    _fill_bias(up, 0.0)


def _set_band_waveforms(up: nn.ConvTranspose1d, band_hz: Tensor, rate_hz: float) -> None:
    """Combine the two channels of each band into one waveform at the output rate, one channel per band."""
    filters = up.weight * SMALL
    taps, stride = filters.shape[-1], up.stride[0]
    lowpass = torch.from_numpy(firwin(taps, 1 / stride)) * stride
    angle = 2 * math.pi * band_hz[:, None] * (torch.arange(taps, dtype=torch.float64) - int(up.padding[0])) / rate_hz
    rows = torch.arange(len(band_hz))
    filters[2 * rows, rows] += (THIRD_GAIN * lowpass * angle.cos()).to(filters.dtype)
    filters[2 * rows + 1, rows] -= (THIRD_GAIN * lowpass * angle.sin()).to(filters.dtype)
    up.weight = filters
    _fill_bias(up, 0.0)
