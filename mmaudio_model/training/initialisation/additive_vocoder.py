"""First values that make a small vocoder an additive synthesiser: one sine for each multiple of the frame rate.

From chance, a vocoder learns envelopes in minutes and pitch in days. Here it begins with a sound whose spectrum is
the spectrogram's, lines included: 128 sines of fixed frequencies, each as loud as the log-mel spectrogram says, and
learns from there. Sines at multiples of the frame rate have the same phase in every frame, so one filter makes each.

It fits rates of (1, a, b): the first stage's channels are the sines' amplitudes at the frame rate, the second's their
sums in bands at a times that rate, real and imaginary parts, and the third's the waves. The bands overlap to half.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy.signal import firwin
from torch import Tensor, nn

from mmaudio_model.networks.mel import band_centres_hz
from mmaudio_model.networks.vocoder import AmpBlock, SnakeBeta, Vocoder
from mmaudio_model.variants import AudioMode


@dataclass(frozen=True)
class Curve:
    """What one pair of a residual block does: x -> x^2 + bend x^4, scaled so that 1 becomes `loudest`."""

    bend: float
    loudest: float


QUIETEST = -5.2
"""log10 mel where the curve begins; the quietest that is heard lies a decade above."""
LISTENED = 1e-4
"""What a log10 mel of 0 is in the first stage before its curves: small, so that beside them it is nothing."""
CURVES = (Curve(bend=10.0, loudest=3e-3), Curve(bend=1.0, loudest=3e3))
"""u -> u^2 + 10 u^4, then v -> v^2 + v^4: from -5 to 0.3 that is 10^mel to within a quarter of a decade."""
AMPLITUDE = 0.15
"""Of each of the sines that together have a log10 mel of 0."""
THIRD_GAIN, LAST_GAIN = 0.1, 0.1
"""What the third stage and the last filter multiply with; the second stage does the rest."""
RANGE = 0.3
"""Of sin(x), where it is as good as x."""
SMALL = 1e-4
"""Share of the seed's values that is left, so that channels differ."""
NOTHING = 1e-5
"""Share that is nothing once `SMALL` is taken of it, and still has a direction, which weight normalisation needs."""
BANDS_A_RATE = 2
"""Bands overlap to half, so that a sine is always well inside one."""
LATER = 2
"""The tap of three that is heard a frame later. A frame's window hears a blow two frames before its middle, so a
synthesiser that sounds in the middle is early; `LATE_FRAMES` is what training must know of it."""
LATE_FRAMES = 1


@torch.no_grad()
def initialise_as_additive(vocoder: Vocoder, mode: AudioMode) -> None:
    """Set the filters of a vocoder that has the seed's values.

    The first stage is not trained from then on: curves so steep are spoiled by the first steps.

    Raises:
        ValueError: it has other rates than (1, a, b), or too few channels for the bands.
    """
    sizes = vocoder.sizes
    if len(sizes.rates) != 3 or sizes.rates[0] != 1 or len(sizes.dilations) < len(CURVES):
        raise ValueError(
            f"Got rates {sizes.rates} and dilations {sizes.dilations}; (1, a, b) and two or more are needed."
        )
    _, rate, last_rate = sizes.rates
    sines, bands = sizes.initial_channels // 2, BANDS_A_RATE * last_rate // 2 + 1
    if 2 * bands > sizes.initial_channels // 4:
        raise ValueError(f"Got {sizes.initial_channels} channels; {bands} bands need {8 * bands}.")
    frame_hz = mode.sample_rate_hz / mode.hop
    hz = frame_hz * torch.arange(1, sines + 1, dtype=torch.float64)
    _listen(vocoder, mode, hz)
    (up,), (up_last,) = vocoder.ups[1], vocoder.ups[2]
    band_hz = frame_hz * rate / BANDS_A_RATE
    band = (hz / band_hz).round().long()
    _modulate(up, hz, band, rate_hz=frame_hz * rate)
    _raise_bands(up_last, band_hz * torch.arange(bands, dtype=torch.float64), mode.sample_rate_hz)
    for block in vocoder.resblocks[len(sizes.block_kernels) :]:
        assert isinstance(block, AmpBlock)
        for conv in block.convs2:
            conv.weight = conv.weight * SMALL
            conv.bias.zero_()
        for conv in block.convs1:
            conv.bias.zero_()
    vocoder.activation_post.act.alpha.fill_(math.log(0.1))
    sum_up = vocoder.conv_post.weight * SMALL
    sum_up[0, :bands, sum_up.shape[-1] // 2] += LAST_GAIN
    vocoder.conv_post.weight = sum_up
    if vocoder.conv_post.bias is not None:
        vocoder.conv_post.bias.zero_()
    for module in vocoder.modules():
        if isinstance(module, nn.Conv1d | nn.ConvTranspose1d):
            direction = module.parametrizations.weight.original1
            # Steps are small beside it, and half precision holds it.
            direction.div_(direction.square().mean((1, 2), keepdim=True).sqrt())
    for module in (vocoder.conv_pre, vocoder.ups[0], *vocoder.resblocks[: len(sizes.block_kernels)]):
        module.requires_grad_(False)


def _listen(vocoder: Vocoder, mode: AudioMode, hz: Tensor) -> None:
    """Let the first stage's channels be the sines' amplitudes: 10 to the power of the log-mel at their frequencies.

    An activation is x + sin(alpha x)^2 / beta; in the range of small angles that is a square, which drowns the x. Two
    in a row, and two such pairs, are an exponential.
    """
    level = -LISTENED / QUIETEST
    vocoder.conv_pre.weight = _placed(vocoder.conv_pre.weight * LISTENED, level * _between(band_centres_hz(mode), hz))
    vocoder.conv_pre.bias.fill_(LISTENED)
    (up,) = vocoder.ups[0]
    same = torch.eye(len(hz))
    up.weight = _placed(up.weight, same, tap=LATER)
    up.bias.zero_()
    for block in vocoder.resblocks[: len(vocoder.sizes.block_kernels)]:
        assert isinstance(block, AmpBlock)
        loudest = LISTENED
        for index, (conv1, conv2) in enumerate(zip(block.convs1, block.convs2, strict=True)):
            conv1.weight, conv2.weight = _only(conv1.weight, same), _only(conv2.weight, 0 * same)
            conv1.bias.zero_()
            conv2.bias.zero_()
            if index < len(CURVES):
                curve = CURVES[index]
                _square(block.activations[2 * index].act, RANGE / loudest, 1.0)
                _square(block.activations[2 * index + 1].act, RANGE, curve.bend)
                conv2.weight = _only(conv2.weight, same * curve.loudest / (1 + curve.bend))
                loudest = curve.loudest


def _square(snake: SnakeBeta, alpha: float, of_range: float) -> None:
    """Let an activation add `of_range` times the square of its input, as a share of its range."""
    snake.alpha.fill_(math.log(alpha))
    snake.beta.fill_(math.log(RANGE**2 / of_range))


def _only(filters: Tensor, matrix: Tensor) -> Tensor:
    """Return filters that are a matrix in their middle tap."""
    return _placed(filters * NOTHING, matrix)


def _placed(filters: Tensor, matrix: Tensor, tap: int | None = None) -> Tensor:
    """Return small filters with a matrix added to a tap, the middle one if none is named, where it reaches."""
    filters = filters * SMALL
    rows, columns = matrix.shape
    filters[:rows, :columns, filters.shape[-1] // 2 if tap is None else tap] += matrix.to(filters.dtype)
    return filters


def _between(centres_hz: Tensor, hz: Tensor) -> Tensor:
    """Return weights (frequencies, bands) that read each frequency's level off the two bands beside it."""
    above = torch.searchsorted(centres_hz, hz).clamp(1, len(centres_hz) - 1)
    low, high = centres_hz[above - 1], centres_hz[above]
    share = ((hz - low) / (high - low)).clamp(0, 1)
    weights = torch.zeros(len(hz), len(centres_hz), dtype=torch.float64)
    rows = torch.arange(len(hz))
    weights[rows, above - 1] = 1 - share
    weights[rows, above] += share
    return weights


def _modulate(up: nn.ConvTranspose1d, hz: Tensor, band: Tensor, *, rate_hz: float) -> None:
    """Let each sine's frame be a windowed wave in its band's two channels; frames overlap to a steady one."""
    filters = up.weight * SMALL
    taps = filters.shape[-1]
    moment = torch.arange(taps, dtype=torch.float64) - up.padding[0]
    window = torch.sin(math.pi * (torch.arange(taps, dtype=torch.float64) + 0.5) / taps).square()
    # Phases of chance keep the peaks low; seeded by the golden ratio, they are the same on every machine.
    phase = 2 * math.pi * (torch.arange(len(hz), dtype=torch.float64) ** 2 * 0.6180339887 % 1)
    gain = AMPLITUDE / (CURVES[-1].loudest * THIRD_GAIN * LAST_GAIN)
    angle = 2 * math.pi * hz[:, None] * moment / rate_hz + phase[:, None]
    rows = torch.arange(len(hz))
    filters[rows, 2 * band] += (gain * window * angle.cos()).to(filters.dtype)
    filters[rows, 2 * band + 1] += (gain * window * angle.sin()).to(filters.dtype)
    up.weight = filters
    up.bias.zero_()


def _raise_bands(up: nn.ConvTranspose1d, band_hz: Tensor, rate_hz: float) -> None:
    """Let each band's two channels be one wave at the waveform's rate, in a channel of its own."""
    filters = up.weight * SMALL
    taps, stride = filters.shape[-1], up.stride[0]
    lowpass = torch.from_numpy(firwin(taps, 1 / stride)) * stride
    angle = 2 * math.pi * band_hz[:, None] * (torch.arange(taps, dtype=torch.float64) - up.padding[0]) / rate_hz
    rows = torch.arange(len(band_hz))
    filters[2 * rows, rows] += (THIRD_GAIN * lowpass * angle.cos()).to(filters.dtype)
    filters[2 * rows + 1, rows] -= (THIRD_GAIN * lowpass * angle.sin()).to(filters.dtype)
    up.weight = filters
    up.bias.zero_()
