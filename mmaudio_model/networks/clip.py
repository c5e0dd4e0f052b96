"""CLIP's image and text towers, by open_clip's own class; here is only how this model reads them.

Images: pooled, projected, unit length. Words: the states of all 77 positions behind the last norm, unit length each,
neither projected nor pooled.
"""

from __future__ import annotations

from functools import cache

import torch
import torch.nn.functional as F
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from mmaudio_model.variants import TEXT_TOKENS, ClipSizes

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
FRAMES_AT_ONCE = 64


def build_clip(sizes: ClipSizes) -> CLIP:
    """Return open_clip's network in the sizes of a variant."""
    return CLIP(
        embed_dim=sizes.embed_dim,
        quick_gelu=True,
        vision_cfg=CLIPVisionCfg(
            image_size=sizes.image_size,
            layers=sizes.vision_layers,
            width=sizes.vision_width,
            head_width=sizes.vision_head_width,
            patch_size=sizes.patch_size,
        ),
        text_cfg=CLIPTextCfg(
            context_length=TEXT_TOKENS,
            width=sizes.text_width,
            heads=sizes.text_heads,
            layers=sizes.text_layers,
        ),
    )


@cache
def tokenizer() -> SimpleTokenizer:
    """Return CLIP's byte-pair tokenizer; its vocabulary comes with open_clip."""
    return SimpleTokenizer(context_length=TEXT_TOKENS)


def encode_frames(clip: CLIP, frames: Tensor) -> Tensor:
    """Return unit features (T, embed_dim) of float32 frames (T, 3, H, W) in [0, 1]; only then the weights' dtype."""
    mean, std = frames.new_tensor(MEAN)[:, None, None], frames.new_tensor(STD)[:, None, None]
    dtype = clip.positional_embedding.dtype
    parts = ((part - mean) / std for part in frames.split(FRAMES_AT_ONCE))
    return torch.cat([clip.encode_image(part.to(dtype), normalize=True) for part in parts])


def encode_tokens(clip: CLIP, tokens: Tensor) -> Tensor:
    """Return unit states (B, 77, text_width) of token ids (B, 77)."""
    x = clip.token_embedding(tokens) + clip.positional_embedding
    x = clip.transformer(x, attn_mask=clip.attn_mask)
    return F.normalize(clip.ln_final(x), dim=-1)
