"""Layers of the flow network. Tensors are channel-last, (B, L, D), unless noted otherwise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

HEAD_WIDTH = 64
FEW_VECTORS = 32
"""With fewer vectors per row, BLAS uses a different kernel for one row than for several."""


def swiglu_width(width: int, ratio: int = 4) -> int:
    """Return the inner width of a SwiGLU layer: two thirds of `ratio * width`, rounded up to a multiple of 256."""
    wanted = int(2 * (ratio * width) / 3)
    return 256 * ((wanted + 255) // 256)


def works_row_by_row(x: Tensor) -> bool:
    """Return whether to process a batch row by row, for kernels that sum a single row in another order.

    On the CPU two kernels do (every layer of the flow network was compared bit by bit): oneDNN's convolution, and BLAS
    with few vectors per row. Running only these row by row makes a sound independent of its batch and keeps most of the
    speed of batching. Not done in training.
    """
    return len(x) > 1 and x.device.type == "cpu" and not torch.is_grad_enabled()


class InvariantLinear(nn.Linear):
    """A linear layer on (B, D) or (B, L, D), also for small L, whose result does not depend on the batch."""

    def forward(self, x: Tensor) -> Tensor:
        if x.numel() < FEW_VECTORS * len(x) * self.in_features and works_row_by_row(x):
            return torch.cat([super(InvariantLinear, self).forward(row) for row in x.split(1)])
        return super().forward(x)


class ChannelLastConv1d(nn.Conv1d):
    """A 1-D convolution over the token axis of a channel-last tensor.

    Has nn.Conv1d's constructor arguments, since peft builds adapters with the layer's class.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x.transpose(1, 2)
        if works_row_by_row(x):
            return torch.cat([super(ChannelLastConv1d, self).forward(row) for row in x.split(1)]).transpose(1, 2)
        return super().forward(x).transpose(1, 2)


class SwiGlu(nn.Module):
    """w2(silu(w1 x) * w3 x), Shazeer 2020 (arXiv 2002.05202); with a kernel size, the three layers are convolutions."""

    def __init__(self, width: int, kernel_size: int | None = None) -> None:
        super().__init__()
        inner = swiglu_width(width)

        def layer(inputs: int, outputs: int) -> nn.Module:
            if kernel_size is None:
                return InvariantLinear(inputs, outputs, bias=False)
            return ChannelLastConv1d(inputs, outputs, kernel_size, padding=kernel_size // 2, bias=False)

        self.w1 = layer(width, inner)
        self.w2 = layer(inner, width)
        self.w3 = layer(width, inner)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.w2(F.silu(self.w1(x)) * self.w3(x))
        return out


class RMSNorm(nn.Module):
    """RMS norm over the channels of a head, in float32 with float32's epsilon, whatever the weights' dtype."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        eps = torch.finfo(torch.float32).eps
        return F.rms_norm(x.float(), x.shape[-1:], self.weight.float(), eps).to(x.dtype)


def layer_norm(x: Tensor) -> Tensor:
    """Layer norm without learned parameters."""
    return F.layer_norm(x, x.shape[-1:], eps=1e-5)


def modulate(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    return x * (1 + scale) + shift


def rope_table(length: int, *, scale: float = 1.0, device: torch.device) -> Tensor:
    """Return cosines and sines of the rotary embedding (Su et al. 2021), float32, (2, length, HEAD_WIDTH / 2).

    Args:
        scale: multiplies the frequencies, so that a stream with fewer tokens covers the same time.
    """
    exponents = torch.arange(0, HEAD_WIDTH, 2, dtype=torch.float32, device=device) / HEAD_WIDTH
    frequencies = (1.0 / 10000.0**exponents) * scale
    angles = torch.arange(length, dtype=torch.float32, device=device)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()])


def rotate(x: Tensor, table: Tensor) -> Tensor:
    """Rotate neighbouring channel pairs of x, (B, H, L, HEAD_WIDTH), in float32; the result has x's dtype."""
    cos, sin = table
    even, odd = x.float().unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2).to(x.dtype)


class SelfAttention(nn.Module):
    """Projects to queries, keys and values; the caller joins streams and calls `attention`."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = InvariantLinear(width, 3 * width)
        self.q_norm = RMSNorm(width // heads)
        self.k_norm = RMSNorm(width // heads)

    def project(self, x: Tensor, rope: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v of (B, L, D), each (B, H, L, D / H)."""
        # The published weights interleave q, k and v fastest.
        q, k, v = rearrange(self.qkv(x), "B L (H D J) -> J B H L D", J=3, H=self.heads)
        q, k = self.q_norm(q), self.k_norm(k)
        if rope is not None:
            q, k = rotate(q, rope), rotate(k, rope)
        return q, k, v


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Full attention; returns (B, L, D)."""
    # Strided values, as from the interleaved projection, select a kernel that sums a single row in another order.
    return rearrange(F.scaled_dot_product_attention(q, k, v.contiguous()), "B H L D -> B L (H D)")
