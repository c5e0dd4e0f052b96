"""Synchformer's visual encoder (Iashin et al. 2024, arXiv 2401.16423): features of the timing of visual events.

Segments of 16 frames at 25 fps, every 8 frames; each gives 8 tokens. Divided attention: over time first, then over
space. Key prefix in the checkpoint: `vfeat_extractor.`.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange, repeat
from torch import Tensor, nn

from mmaudio_model.variants import SEGMENT_FRAMES, SEGMENT_STRIDE, SEGMENT_TOKENS, SyncSizes

LAYER_NORM_EPS = 1e-6
TUBE_FRAMES = SEGMENT_FRAMES // SEGMENT_TOKENS
SEGMENTS_AT_ONCE = 40


class _TubeEmbedding(nn.Module):
    """Patches of two frames to tokens, in order (time, row, column)."""

    def __init__(self, sizes: SyncSizes) -> None:
        super().__init__()
        kernel = (TUBE_FRAMES, sizes.patch_size, sizes.patch_size)
        self.proj = nn.Conv3d(3, sizes.width, kernel, stride=kernel)

    def forward(self, frames: Tensor) -> Tensor:
        out: Tensor = rearrange(self.proj(frames), "B D T H W -> B T (H W) D")
        return out


class DividedAttention(nn.Module):
    """Attention within groups of tokens plus the class token; the class token attends to all tokens."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, cls: Tensor, patches: Tensor) -> tuple[Tensor, Tensor]:
        """Attend: cls (B, 1, D), patches (B, groups, members, D)."""
        groups, members = patches.shape[1:3]
        joined = torch.cat([cls, patches.flatten(1, 2)], dim=1)
        q, k, v = rearrange(self.qkv(joined), "B L (J H D) -> J B H L D", J=3, H=self.heads)
        from_cls = F.scaled_dot_product_attention(q[:, :, :1], k, v)

        def grouped(x: Tensor) -> Tensor:
            return rearrange(x[:, :, 1:], "B H (G M) D -> (B G) H M D", G=groups)

        def with_cls(x: Tensor) -> Tensor:
            return torch.cat([repeat(x[:, :, :1], "B H 1 D -> (B G) H 1 D", G=groups), grouped(x)], dim=2)

        from_patches = F.scaled_dot_product_attention(grouped(q), with_cls(k), with_cls(v))
        out_cls = self.proj(rearrange(from_cls, "B H L D -> B L (H D)"))
        out = self.proj(rearrange(from_patches, "(B G) H M D -> B G M (H D)", G=groups, M=members))
        return out_cls, out


class _Mlp(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class DividedBlock(nn.Module):
    """Pre-norm residual block: time attention, space attention, feed-forward."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.attn = DividedAttention(width, heads)
        self.timeattn = DividedAttention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.mlp = _Mlp(width)
        self.norm3 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, cls: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """cls (B, 1, D), x (B, T, S, D)."""
        cls_time, x_time = self.timeattn(self.norm3(cls), self.norm3(x).transpose(1, 2))
        cls, x = cls + cls_time, x + x_time.transpose(1, 2)
        cls_space, x_space = self.attn(self.norm1(cls), self.norm1(x))
        cls, x = cls + cls_space, x + x_space
        return cls + self.mlp(self.norm2(cls)), x + self.mlp(self.norm2(x))


class SpatialAggregation(nn.Module):
    """One pre-norm transformer layer that aggregates the tokens of a time step into a class token."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, width))
        self.self_attn = nn.MultiheadAttention(width, heads, batch_first=True)
        self.linear1 = nn.Linear(width, 4 * width)
        self.linear2 = nn.Linear(4 * width, width)
        self.norm1 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)
        self.norm2 = nn.LayerNorm(width, eps=LAYER_NORM_EPS)

    def forward(self, x: Tensor) -> Tensor:
        """(B, S, D) to (B, D)."""
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], dim=1)
        y = self.norm1(x)
        cls = x[:, 0] + self.self_attn(y[:, :1], y, y, need_weights=False)[0][:, 0]  # only this row is used
        out: Tensor = cls + self.linear2(F.gelu(self.linear1(self.norm2(cls))))
        return out


class SynchformerVisual(nn.Module):
    """Frames (B, F, 3, size, size) in [-1, 1] to tokens (B, S, D)."""

    def __init__(self, sizes: SyncSizes) -> None:
        super().__init__()
        positions = (sizes.frame_size // sizes.patch_size) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, 1 + positions, sizes.width))
        self.temp_embed = nn.Parameter(torch.zeros(1, SEGMENT_TOKENS, sizes.width))
        self.patch_embed_3d = _TubeEmbedding(sizes)
        self.blocks = nn.ModuleList(DividedBlock(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPS)
        self.spatial_attn_agg = SpatialAggregation(sizes.width, sizes.heads)

    def forward(self, frames: Tensor) -> Tensor:
        """Encode the frames of at least one segment; frames after the last whole segment are dropped.

        Raises:
            ValueError: fewer frames than a segment has.
        """
        if frames.shape[1] < SEGMENT_FRAMES:
            raise ValueError(f"Got {frames.shape[1]} frames; a segment has {SEGMENT_FRAMES}.")
        segments = frames.unfold(1, SEGMENT_FRAMES, SEGMENT_STRIDE)  # (B, segments, 3, H, W, 16)
        batch = segments.shape[0]
        segments = rearrange(segments, "B G C H W F -> (B G) C F H W")
        tokens = torch.cat([self._encode(part) for part in segments.split(SEGMENTS_AT_ONCE)])
        return rearrange(tokens, "(B G) T D -> B (G T) D", B=batch)

    def _encode(self, segments: Tensor) -> Tensor:
        x = self.patch_embed_3d(segments)  # (B, T, S, D)
        x = x + self.pos_embed[:, None, 1:] + self.temp_embed[:, :, None]
        cls = (self.cls_token + self.pos_embed[:, :1]).expand(len(x), -1, -1)
        for block in self.blocks:
            cls, x = block(cls, x)
        tokens = self.spatial_attn_agg(self.norm(x).flatten(0, 1))
        out: Tensor = tokens.unflatten(0, (-1, SEGMENT_TOKENS))
        return out
