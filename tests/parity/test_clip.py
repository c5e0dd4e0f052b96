"""CLIP's two towers against the published ones."""

from __future__ import annotations

import torch

from mmaudio_model.networks.clip import encode_frames, encode_tokens
from mmaudio_model.networks.tokenizer import tokenizer
from tests.parity import whole
from tests.parity.vectors import case

CLIP_TOLERANCE = 2e-6


@torch.inference_mode()
def test_clip_reads_as_the_published_one() -> None:
    text = case("text")
    states = encode_tokens(whole.shared("clip_text"), tokenizer()(text.options["prompts"]))

    assert text.difference("features", states) <= CLIP_TOLERANCE


@torch.inference_mode()
def test_clip_sees_as_the_published_one() -> None:
    image = case("clip_image")
    for name in ("fine", "coarse", "border_only"):
        features = encode_frames(whole.shared("clip_image"), image.input(name)[0])[None]
        assert image.difference(f"features_{name}", features) <= CLIP_TOLERANCE, name
