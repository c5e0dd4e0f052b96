"""CLIP's image and text towers (Radford et al. 2021, arXiv 2103.00020), with the outputs this model needs.

Images: pooled, projected, unit length. Text: the states of all 77 positions after the last norm, unit length each,
neither projected nor pooled. The towers are separate networks, so that text can be encoded without the image tower,
two thirds of the file. Own classes, because importing open_clip takes longer than loading the weights.
"""

from __future__ import annotations

from collections import OrderedDict

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from mmaudio_model.networks.tokenizer import VOCABULARY_SIZE
from mmaudio_model.variants import TEXT_TOKENS, ClipSizes

MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)
FRAMES_AT_ONCE = 64


class QuickGelu(nn.Module):
    """x sigmoid(1.702 x)."""

    def forward(self, x: Tensor) -> Tensor:
        return x * torch.sigmoid(1.702 * x)


class Attention(nn.Module):
    """Self-attention over (B, L, D), with q, k and v of all heads in one projection."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.heads, self.causal = heads, causal
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        projected = F.linear(x, self.in_proj_weight, self.in_proj_bias)
        q, k, v = rearrange(projected, "B L (K H D) -> K B H L D", K=3, H=self.heads)
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        out: Tensor = self.out_proj(rearrange(attended, "B H L D -> B L (H D)"))
        return out


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, *, causal: bool) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(width)
        self.attn = Attention(width, heads, causal=causal)
        self.ln_2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=QuickGelu(), c_proj=nn.Linear(4 * width, width))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class Transformer(nn.Module):
    """A stack of blocks."""

    def __init__(self, width: int, heads: int, layers: int, *, causal: bool) -> None:
        super().__init__()
        self.resblocks = nn.Sequential(*(Block(width, heads, causal=causal) for _ in range(layers)))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.resblocks(x)
        return out


class ImageTower(nn.Module):
    """Normalised pictures (B, 3, H, W) to features (B, embed_dim)."""

    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        width, patch = sizes.vision_width, sizes.patch_size
        positions = (sizes.image_size // patch) ** 2
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.positional_embedding = nn.Parameter(torch.empty(1 + positions, width))
        self.proj = nn.Parameter(torch.empty(width, sizes.embed_dim))
        self.conv1 = nn.Conv2d(3, width, patch, patch, bias=False)
        self.ln_pre = nn.LayerNorm(width)
        heads = width // sizes.vision_head_width
        self.transformer = Transformer(width, heads, sizes.vision_layers, causal=False)
        self.ln_post = nn.LayerNorm(width)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.conv1(images).flatten(2).transpose(1, 2)  # (B, L, D)
        cls = self.class_embedding.expand(len(images), 1, -1)
        x = torch.cat([cls, patches], dim=1) + self.positional_embedding
        x = self.transformer(self.ln_pre(x))
        out: Tensor = self.ln_post(x[:, 0]) @ self.proj
        return out


class TextTower(nn.Module):
    """Token ids (B, 77) to the states of all positions, (B, 77, text_width)."""

    def __init__(self, sizes: ClipSizes) -> None:
        super().__init__()
        self.positional_embedding = nn.Parameter(torch.empty(TEXT_TOKENS, sizes.text_width))
        # Not initialised randomly: on `meta`, that would import torch's compiler.
        self.token_embedding = nn.Embedding.from_pretrained(torch.empty(VOCABULARY_SIZE, sizes.text_width))
        self.transformer = Transformer(sizes.text_width, sizes.text_heads, sizes.text_layers, causal=True)
        self.ln_final = nn.LayerNorm(sizes.text_width)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token_embedding(tokens) + self.positional_embedding
        out: Tensor = self.ln_final(self.transformer(x))
        return out


def encode_frames(tower: ImageTower, frames: Tensor) -> Tensor:
    """Return unit features (T, embed_dim) of float32 frames (T, 3, H, W) in [0, 1], in the weights' dtype."""
    mean, std = frames.new_tensor(MEAN)[:, None, None], frames.new_tensor(STD)[:, None, None]
    parts = ((part - mean) / std for part in frames.split(FRAMES_AT_ONCE))
    return F.normalize(torch.cat([tower(part.to(tower.proj.dtype)) for part in parts]), dim=-1)


def encode_tokens(tower: TextTower, tokens: Tensor) -> Tensor:
    """Return unit states (B, 77, text_width) of token ids (B, 77)."""
    return F.normalize(tower(tokens), dim=-1)
