"""Autoencoder, vocoder and mel analysis against the published ones."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.networks.vae import Vae
from tests.parity import networks
from tests.parity.networks import MODES
from tests.parity.vectors import case

VAE_TOLERANCE = {"16k": 1e-4, "44k": 2e-4}
VOCODER_TOLERANCE = 1e-5
MEL_TOLERANCE = 1e-4
# Where next to nothing sounds, a band is the rounding of its frame's loudest one: another processor's Fourier
# transform has other last bits (ours and the recorded ones are up to 0.005 and 0.004 from float64's in the logarithm).
QUIET = 2e-3
QUIET_MEL_TOLERANCE = 2e-6
# The autoencoder passes that on. Its own mistakes show in `encoded_mean`, whose spectrogram is drawn.
HEARD_TOLERANCE = 1e-3


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=MODES)
def vae(request: pytest.FixtureRequest) -> tuple[str, Vae]:
    return request.param, networks.vae(MODES[request.param])


@pytest.mark.parametrize("name", ["short", "batch", "two_s"])
def test_latents_decode_to_the_published_mel(vae: tuple[str, Vae], name: str) -> None:
    mode, network = vae
    recorded = case(f"vae_{mode}")

    assert recorded.difference(f"decoded_{name}", network.decode(recorded.input(f"z_{name}"))) <= VAE_TOLERANCE[mode]


def test_mel_and_sound_encode_to_the_published_latents(vae: tuple[str, Vae]) -> None:
    mode, network = vae
    recorded, tolerance = case(f"vae_{mode}"), VAE_TOLERANCE[mode]
    mean, std = (part.transpose(1, 2) for part in network.encode(recorded.input("mel_in")))
    noise = torch.empty_like(mean).normal_(generator=torch.Generator().manual_seed(2120))
    heard, _ = network.encode(MelSpectrogram(MODES[mode])(recorded.input("audio_in")))

    assert recorded.difference("encoded_mean", mean) <= tolerance
    assert recorded.difference("encoded_std", std) <= tolerance
    assert recorded.difference("encoded_sample", mean + std * noise) <= tolerance
    assert recorded.difference("encoded_audio_mean", heard.transpose(1, 2)) <= HEARD_TOLERANCE


@pytest.mark.parametrize("mode", MODES)
def test_vocoder_makes_the_published_waveform(mode: str) -> None:
    network, recorded = networks.vocoder(MODES[mode]), case(f"vocoder_{mode}")

    for name in ("short", "batch", "loud"):
        waveform = network(recorded.input(f"mel_{name}"))
        assert recorded.difference(f"wave_{name}", waveform) <= VOCODER_TOLERANCE, name


@pytest.mark.parametrize("mode", MODES)
def test_mel_analysis_is_the_published_one(mode: str) -> None:
    analyse, recorded = MelSpectrogram(MODES[mode]), case(f"mel_{mode}")

    for name in ("sweep", "noise", "loud", "silence"):
        heard, told = recorded.both(f"mel_{name}", analyse(recorded.input(name)))
        base = 10.0 if analyse.log10 else math.e
        audible = base**told > QUIET

        assert np.abs(heard - told)[audible].max(initial=0) <= MEL_TOLERANCE, name
        assert np.abs(base**heard - base**told)[~audible].max(initial=0) <= QUIET_MEL_TOLERANCE, name
