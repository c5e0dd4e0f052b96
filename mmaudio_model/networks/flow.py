"""The flow network: an MM-DiT over sound latents, frame features, synchronisation features and text features.

MMAudio (Cheng et al., CVPR 2025): joint blocks attend over three streams, fused blocks refine the sound
stream only. What does not depend on time is computed once per request (`prepare`), the rest per step (`velocity`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmaudio_model.networks.layers import (
    ChannelLastConv1d,
    InvariantLinear,
    SelfAttention,
    SwiGlu,
    attention,
    layer_norm,
    modulate,
    rope_table,
)
from mmaudio_model.variants import SEGMENT_TOKENS, TEXT_TOKENS, FlowSizes


@dataclass(frozen=True)
class Conditions:
    """Projected conditions of a batch and the rotary tables for its lengths."""

    clip: Tensor  # (B, T, D)
    sync: Tensor  # (B, N, D), resampled to the latent's tokens
    text: Tensor  # (B, 77, D)
    pooled: Tensor  # (B, 1, D)
    latent_rope: Tensor
    clip_rope: Tensor

    @classmethod
    def join(cls, batches: Sequence[Conditions]) -> Conditions:
        """Concatenate the conditions of several batches with equal lengths."""
        return cls(
            clip=torch.cat([batch.clip for batch in batches]),
            sync=torch.cat([batch.sync for batch in batches]),
            text=torch.cat([batch.text for batch in batches]),
            pooled=torch.cat([batch.pooled for batch in batches]),
            latent_rope=batches[0].latent_rope,
            clip_rope=batches[0].clip_rope,
        )

    def select(self, rows: list[int]) -> Conditions:
        """Return the conditions of some rows of the batch."""
        return Conditions(
            self.clip[rows], self.sync[rows], self.text[rows], self.pooled[rows], self.latent_rope, self.clip_rope
        )


class TimeEmbedding(nn.Module):
    """Sinusoidal embedding of the flow's time in [0, 1], then a two-layer MLP."""

    def __init__(self, width: int, embedding: int, max_period: float) -> None:
        super().__init__()
        self.embedding, self.max_period = embedding, max_period
        self.mlp = nn.Sequential(InvariantLinear(embedding, width), nn.SiLU(), InvariantLinear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        """Embed t, (B,), to (B, D).

        Frequencies and phases are float32 whatever the weights' dtype. A t of another dtype selects the published
        program's behaviour: frequencies rounded to that dtype, which in bfloat16 shifts the fastest of v2 by radians.
        """
        exponents = torch.arange(0, self.embedding, 2, dtype=torch.float32, device=t.device) / self.embedding
        frequencies = ((1.0 / 10000.0**exponents) * (10000.0 / self.max_period)).to(t.dtype).float()
        phases = t[:, None].float() * frequencies
        dtype = self.mlp.get_parameter("0.weight").dtype
        out: Tensor = self.mlp(torch.cat([phases.cos(), phases.sin()], -1).to(dtype))
        return out


class StreamBlock(nn.Module):
    """One stream of a joint block, or a fused block: adaLN, attention, feed-forward.

    Args:
        kernel_size: of the convolutions; None makes them linear (the text stream).
        pre_only: the stream only contributes keys and values; its output is not used.
    """

    def __init__(self, width: int, heads: int, *, kernel_size: int | None, pre_only: bool = False) -> None:
        super().__init__()
        self.pre_only = pre_only
        self.attn = SelfAttention(width, heads)
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), InvariantLinear(width, (2 if pre_only else 6) * width))
        if not pre_only:
            self.linear1 = (
                nn.Linear(width, width)
                if kernel_size is None
                else ChannelLastConv1d(width, width, kernel_size, padding=kernel_size // 2)
            )
            self.ffn = SwiGlu(width, kernel_size)

    def pre_attention(
        self, x: Tensor, c: Tensor, rope: Tensor | None
    ) -> tuple[tuple[Tensor, Tensor, Tensor], tuple[Tensor, ...]]:
        """Return q, k, v of x under condition c, (B, 1 or L, D), and the modulation that `post_attention` needs.

        x is float32 whatever the weights' dtype: the blocks' small updates would be lost to rounding.
        """
        shift, scale, *rest = self.adaLN_modulation(c).float().chunk(2 if self.pre_only else 6, dim=-1)
        return self.attn.project(modulate(layer_norm(x), shift, scale).to(c.dtype), rope), tuple(rest)

    def post_attention(self, x: Tensor, attended: Tensor, modulation: tuple[Tensor, ...]) -> Tensor:
        gate, shift, scale, gate_ffn = modulation
        x = x + gate * self.linear1(attended)
        out: Tensor = x + gate_ffn * self.ffn(modulate(layer_norm(x), shift, scale).to(attended.dtype))
        return out

    def forward(self, x: Tensor, c: Tensor, rope: Tensor) -> Tensor:
        (q, k, v), modulation = self.pre_attention(x, c, rope)
        return self.post_attention(x, attention(q, k, v), modulation)


class JointBlock(nn.Module):
    """Joint attention over the sound, frame and text streams; the last block outputs only the sound stream."""

    def __init__(self, width: int, heads: int, *, last: bool) -> None:
        super().__init__()
        self.last = last
        self.latent_block = StreamBlock(width, heads, kernel_size=3)
        self.clip_block = StreamBlock(width, heads, kernel_size=3, pre_only=last)
        self.text_block = StreamBlock(width, heads, kernel_size=None, pre_only=last)

    def forward(
        self, latent: Tensor, clip: Tensor, text: Tensor, g: Tensor, e: Tensor, conditions: Conditions
    ) -> tuple[Tensor, Tensor, Tensor]:
        # The sound is modulated per token (e), frames and text by the global vector (g).
        latent_qkv, latent_mod = self.latent_block.pre_attention(latent, e, conditions.latent_rope)
        clip_qkv, clip_mod = self.clip_block.pre_attention(clip, g, conditions.clip_rope)
        text_qkv, text_mod = self.text_block.pre_attention(text, g, None)
        q, k, v = (torch.cat(parts, dim=2) for parts in zip(latent_qkv, clip_qkv, text_qkv, strict=True))
        lengths = [latent.shape[1], clip.shape[1], text.shape[1]]
        from_latent, from_clip, from_text = attention(q, k, v).split(lengths, dim=1)
        latent = self.latent_block.post_attention(latent, from_latent, latent_mod)
        if not self.last:
            clip = self.clip_block.post_attention(clip, from_clip, clip_mod)
            text = self.text_block.post_attention(text, from_text, text_mod)
        return latent, clip, text


class FinalLayer(nn.Module):
    """adaLN and a convolution back to latent channels."""

    def __init__(self, width: int, channels: int) -> None:
        super().__init__()
        self.adaLN_modulation = nn.Sequential(nn.SiLU(), InvariantLinear(width, 2 * width))
        self.conv = ChannelLastConv1d(width, channels, 7, padding=3)

    def forward(self, x: Tensor, g: Tensor) -> Tensor:
        shift, scale = self.adaLN_modulation(g).float().chunk(2, dim=-1)
        out: Tensor = self.conv(modulate(layer_norm(x), shift, scale).to(g.dtype))
        return out


class FlowNetwork(nn.Module):
    """Predicts the velocity of the latent at a time, given the conditions.

    Args:
        sizes: widths and depths.
        channels: latent channels C.
    """

    def __init__(self, sizes: FlowSizes, channels: int) -> None:
        super().__init__()
        width, heads = sizes.width, sizes.heads
        self.sizes, self.channels = sizes, channels
        conv_activation = nn.SiLU if sizes.v2 else nn.SELU
        # v2 has an activation after the linear projections of frames and text as well, which shifts the keys' index.
        between = [nn.SiLU()] if sizes.v2 else []
        self.audio_input_proj = nn.Sequential(
            ChannelLastConv1d(channels, width, 7, padding=3), conv_activation(), SwiGlu(width, 7)
        )
        self.clip_input_proj = nn.Sequential(InvariantLinear(sizes.clip_dim, width), *between, SwiGlu(width, 3))
        self.sync_input_proj = nn.Sequential(
            ChannelLastConv1d(sizes.sync_dim, width, 7, padding=3), conv_activation(), SwiGlu(width, 3)
        )
        self.text_input_proj = nn.Sequential(nn.Linear(sizes.text_dim, width), *between, SwiGlu(width))
        self.clip_cond_proj = InvariantLinear(width, width)
        self.text_cond_proj = InvariantLinear(width, width)
        self.global_cond_mlp = SwiGlu(width)
        self.sync_pos_emb = nn.Parameter(torch.zeros(1, 1, SEGMENT_TOKENS, sizes.sync_dim))
        self.t_embed = TimeEmbedding(width, width if sizes.v2 else 256, max_period=1.0 if sizes.v2 else 10000.0)
        self.joint_blocks = nn.ModuleList(
            JointBlock(width, heads, last=index == sizes.joint_blocks - 1) for index in range(sizes.joint_blocks)
        )
        self.fused_blocks = nn.ModuleList(StreamBlock(width, heads, kernel_size=3) for _ in range(sizes.fused_blocks))
        self.final_layer = FinalLayer(width, channels)
        self.latent_mean = nn.Parameter(torch.zeros(1, 1, channels), requires_grad=False)
        self.latent_std = nn.Parameter(torch.ones(1, 1, channels), requires_grad=False)
        self.empty_string_feat = nn.Parameter(torch.zeros(TEXT_TOKENS, sizes.text_dim))
        self.empty_clip_feat = nn.Parameter(torch.zeros(1, sizes.clip_dim))
        self.empty_sync_feat = nn.Parameter(torch.zeros(1, sizes.sync_dim))

    @property
    def dtype(self) -> torch.dtype:
        return self.latent_mean.dtype

    def prepare(self, clip: Tensor, sync: Tensor, text: Tensor, latent_tokens: int) -> Conditions:
        """Project the features of a batch: clip (B, T, clip_dim), sync (B, S, sync_dim), text (B, 77, text_dim)."""
        segments = sync.unflatten(1, (-1, SEGMENT_TOKENS)) + self.sync_pos_emb
        sync = self.sync_input_proj(segments.flatten(1, 2))
        clip, text = self.clip_input_proj(clip), self.text_input_proj(text)
        sync = F.interpolate(sync.transpose(1, 2), size=latent_tokens, mode="nearest-exact").transpose(1, 2)
        pooled = self.global_cond_mlp(self.clip_cond_proj(clip.mean(1)) + self.text_cond_proj(text.mean(1)))
        return Conditions(
            clip=clip,
            sync=sync,
            text=text,
            pooled=pooled[:, None],
            latent_rope=rope_table(latent_tokens, device=clip.device),
            clip_rope=rope_table(clip.shape[1], scale=latent_tokens / clip.shape[1], device=clip.device),
        )

    def velocity(self, latent: Tensor, t: Tensor, conditions: Conditions) -> Tensor:
        """Return the velocity of latent, (B, N, C), at time t, (B,)."""
        x = self.audio_input_proj(latent).float()
        g = self.t_embed(t)[:, None] + conditions.pooled  # (B, 1, D)
        e = g + conditions.sync  # (B, N, D)
        clip, text = conditions.clip.float(), conditions.text.float()
        for block in self.joint_blocks:
            x, clip, text = block(x, clip, text, g, e, conditions)
        for block in self.fused_blocks:
            x = block(x, e, conditions.latent_rope)
        # The published weights were trained with g instead of e at this point (upstream issue 55).
        out: Tensor = self.final_layer(x, g)
        return out

    def denormalise(self, latent: Tensor) -> Tensor:
        return latent * self.latent_std + self.latent_mean
