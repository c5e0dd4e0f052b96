"""A vocoder that begins as an additive synthesiser: what it is shown is what is heard, before any training."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.networks.vocoder import Vocoder
from mmaudio_model.training.initialisation.additive_vocoder import initialise_as_additive
from mmaudio_model.training.initialisation.defaults import initialise
from mmaudio_model.variants import VocoderSizes, get_variant

MODE = get_variant("tiny_16k").mode
FRAMES, MIDDLE = 40, 20
SILENT = -4.5


def synthesiser(sizes: VocoderSizes = MODE.vocoder) -> Vocoder:
    vocoder = Vocoder(sizes, MODE.mel_bands)
    initialise(vocoder, "vocoder")
    initialise_as_additive(vocoder, MODE)
    return vocoder.eval()


@torch.no_grad()
def heard(vocoder: Vocoder, mel: Tensor) -> Tensor:
    """Return the log-mel spectrogram (bands, L) of what a vocoder makes of one."""
    return MelSpectrogram(MODE)(vocoder(mel[None])[:, 0])[0]


@pytest.mark.parametrize("level", [-4.0, -3.0, -2.0, -1.0, 0.0])
def test_an_even_spectrogram_is_as_loud_as_it_says(level: float) -> None:
    found = heard(synthesiser(), torch.full((MODE.mel_bands, FRAMES), level))[:, MIDDLE]

    assert float((found - level).abs().mean()) < 0.35


@pytest.mark.parametrize("band", [8, 30, 55, 75])
def test_a_line_is_heard_where_it_lies_and_nowhere_else(band: int) -> None:
    mel = torch.full((MODE.mel_bands, FRAMES), SILENT)
    mel[band] = 0.0
    found = heard(synthesiser(), mel)[:, MIDDLE]

    assert abs(int(found.argmax()) - band) <= 1
    far = (torch.arange(MODE.mel_bands) - band).abs() > 6
    assert float(found[far].max()) < float(found.max()) - 1.0


def test_a_blow_is_heard_when_it_falls() -> None:
    mel = torch.full((MODE.mel_bands, FRAMES), SILENT)
    mel[:, MIDDLE:] = -1.0
    loudness = heard(synthesiser(), mel).mean(0)

    assert float(loudness[MIDDLE + 3]) > -1.5
    assert float(loudness[MIDDLE - 5]) < -2.5


def test_half_precision_holds_it() -> None:
    vocoder, mel = synthesiser(), torch.full((MODE.mel_bands, FRAMES), -2.0)
    before = heard(vocoder, mel)
    vocoder.half().float()

    torch.testing.assert_close(heard(vocoder, mel), before, rtol=0, atol=0.05)


def test_its_first_stage_is_not_trained() -> None:
    trained = {name.split(".")[0] for name, weight in synthesiser().named_parameters() if weight.requires_grad}

    assert trained == {"ups", "resblocks", "activation_post", "conv_post"}


@pytest.mark.parametrize(
    "sizes",
    [replace(MODE.vocoder, rates=(4, 8, 8), kernels=(8, 16, 16)), replace(MODE.vocoder, initial_channels=128)],
)
def test_other_sizes_are_refused(sizes: VocoderSizes) -> None:
    with pytest.raises(ValueError, match=r"^Got "):
        synthesiser(sizes)
