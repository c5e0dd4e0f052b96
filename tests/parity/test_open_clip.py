"""Our towers and tokenizer against open_clip's own, on small random networks and on awkward texts."""

from __future__ import annotations

import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmaudio_model.networks.clip import ImageTower, TextTower, encode_frames, encode_tokens
from mmaudio_model.networks.tokenizer import tokenizer
from mmaudio_model.variants import get_variant

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # timm's and torchvision's own
    from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
    from open_clip.tokenizer import SimpleTokenizer

SIZES = get_variant("tiny_16k").clip
NORMALISATION = torch.tensor([0.48145466, 0.4578275, 0.40821073]), torch.tensor([0.26862954, 0.26130258, 0.27577711])


@pytest.fixture(scope="module")
def theirs() -> CLIP:
    torch.manual_seed(0)
    vision = CLIPVisionCfg(
        image_size=SIZES.image_size,
        layers=SIZES.vision_layers,
        width=SIZES.vision_width,
        head_width=SIZES.vision_head_width,
        patch_size=SIZES.patch_size,
    )
    text = CLIPTextCfg(width=SIZES.text_width, heads=SIZES.text_heads, layers=SIZES.text_layers)
    return CLIP(SIZES.embed_dim, vision, text, quick_gelu=True).eval()


@pytest.mark.parametrize("side", [SIZES.image_size, SIZES.image_size + SIZES.patch_size // 2])
def test_pictures_have_the_features_that_open_clip_gives(theirs: CLIP, side: int) -> None:
    ours = ImageTower(SIZES)
    ours.load_state_dict(theirs.visual.state_dict())
    frames = torch.rand(3, 3, side, side)
    mean, std = (values[:, None, None] for values in NORMALISATION)
    with torch.inference_mode():
        difference = encode_frames(ours, frames) - theirs.encode_image((frames - mean) / std, normalize=True)

    assert difference.abs().max() < 1e-6


def test_words_have_the_states_that_open_clip_gives(theirs: CLIP) -> None:
    ours = TextTower(SIZES)
    ours.load_state_dict({key: theirs.state_dict()[key] for key in ours.state_dict()})
    tokens = tokenizer()(["rain on a tin roof", "", "word " * 100])
    with torch.inference_mode():
        states = theirs.transformer(
            theirs.token_embedding(tokens) + theirs.positional_embedding, attn_mask=theirs.attn_mask
        )
        expected = torch.nn.functional.normalize(theirs.ln_final(states), dim=-1)
        difference = encode_tokens(ours, tokens) - expected

    assert difference.abs().max() < 1e-6


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n",
        "Rain on a tin roof's edge; it's WE'LL i'd",
        "&amp;amp; <end_of_text> x <START_OF_TEXT>",
        "日本語 café ÅÄÖ 🎧🎧 123 4x4",
        "â€œquotedâ€\x9d \x00\x01",
        "w" * 300,
        "hello " * 100,
    ],
)
def test_texts_become_open_clips_tokens(text: str) -> None:
    expected = SimpleTokenizer()

    assert tokenizer().encode(text) == expected.encode(text)
    assert torch.equal(tokenizer()([text, "x"]), expected([text, "x"]))


REFERENCE = SimpleTokenizer()


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=60))
def test_any_text_becomes_open_clips_tokens(text: str) -> None:
    assert tokenizer().encode(text) == REFERENCE.encode(text)
