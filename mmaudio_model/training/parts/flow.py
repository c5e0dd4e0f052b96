"""The flow network: conditional flow matching on straight paths (Lipman et al. 2023, arXiv 2210.02747).

Times are drawn log-normally, as MMAudio draws them (Esser et al. 2024, arXiv 2403.03206). Conditions are left out at
random, together and each alone: guidance needs the first, text-to-audio and prompts of nothing the second.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
from torch import Tensor, nn

from mmaudio_model.networks.flow import FlowNetwork
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.features import latent_statistics
from mmaudio_model.training.first_values import give_first_values
from mmaudio_model.training.task import Batch, Draw, Losses, draw_clips
from mmaudio_model.variants import CLIP_FPS, SEGMENT_STRIDE, SEGMENT_TOKENS, SYNC_FPS, Variant

KEPT: Mapping[tuple[bool, bool, bool], float] = MappingProxyType(
    {
        (True, True, True): 0.50,
        (True, True, False): 0.20,
        (False, False, True): 0.18,
        (False, False, False): 0.06,
        (True, False, True): 0.03,  # a still picture
        (False, True, True): 0.03,  # `mask_away_clip`
    }
)
"""How often frames, motion and words are kept, (clip, sync, text)."""
SEGMENT_S = SEGMENT_STRIDE / SYNC_FPS
CROP_SHARE = 0.5
"""Of the batches: crops of a third or two thirds of the clip, so that other lengths than the data's work as well."""


class FlowTraining(nn.Module):
    """Forward gives the losses of a batch of latents and features."""

    def __init__(self, flow: FlowNetwork) -> None:
        super().__init__()
        self.flow = flow

    def forward(self, batch: Batch) -> Losses:
        flow = self.flow
        latent, noise, time = batch["latent"], batch["noise"], batch["time"]
        clip, sync, text = batch["clip"], batch["sync"], batch["text"]
        kept = batch["kept"][:, :, None, None]  # (B, 3, 1, 1)
        conditions = flow.prepare(
            torch.where(kept[:, 0], clip, flow.empty_clip_feat),
            torch.where(kept[:, 1], sync, flow.empty_sync_feat),
            torch.where(kept[:, 2], text, flow.empty_string_feat),
            latent.shape[1],
        )
        wanted = (latent - flow.latent_mean) / flow.latent_std
        at_time = torch.lerp(noise, wanted, time[:, None, None])
        velocity = flow.velocity(at_time, time, conditions).float()
        return {"loss": (velocity - (wanted - noise)).square().mean()}


class FlowTask:
    """Trains the flow network on extracted features.

    Args:
        flow: filled already when it is fine-tuned; None: made anew.
        empty_text: features of the empty text, (77, text_dim), for a network that is made anew.
    """

    parts = MappingProxyType({"flow": "flow"})

    def __init__(
        self, variant: Variant, features: Shards, *, flow: FlowNetwork | None = None, empty_text: Tensor | None = None
    ) -> None:
        self._features = features
        if flow is None:
            assert empty_text is not None, "a new network needs the features of the empty text"
            flow = new_flow(variant, features, empty_text)
        self.module = FlowTraining(flow)

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch:
        indices = draw_clips(self._features, draw, size, validation=validation)
        stretch = _Stretch.drawn(self._features, draw, whole=validation or draw.numpy.random() > CROP_SHARE)
        mean, std, clip, sync = (
            stretch.of(self._read(name, indices), name) for name in ("latent_mean", "latent_std", "clip", "sync")
        )
        captions = self._read("text", indices)
        text = captions[torch.arange(size), torch.from_numpy(draw.numpy.integers(0, captions.shape[1], size))]
        kept = np.array(list(KEPT))[draw.numpy.choice(len(KEPT), size, p=list(KEPT.values()))]
        spread = torch.randn(mean.shape, generator=draw.torch)
        return {
            "latent": mean + std * spread,
            "noise": torch.randn(mean.shape, generator=draw.torch),
            "time": torch.randn(size, generator=draw.torch).sigmoid(),
            "clip": clip,
            "sync": sync,
            "text": text,
            "kept": torch.from_numpy(kept),
        }

    def _read(self, name: str, indices: list[int]) -> Tensor:
        return torch.from_numpy(self._features.batch(name, indices).astype(np.float32))


class _Stretch:
    """A part of a clip, whole segments long, as shares of each stream's tokens."""

    def __init__(self, start: int, length: int, segments: int) -> None:
        self._start, self._length, self._segments = start, length, segments

    @classmethod
    def drawn(cls, features: Shards, draw: Draw, *, whole: bool) -> _Stretch:
        segments = features.get("sync", 0).shape[0] // SEGMENT_TOKENS
        if whole or segments < 3:
            return cls(0, segments, segments)
        length = max(1, round(segments * int(draw.numpy.integers(1, 3)) / 3))
        return cls(int(draw.numpy.integers(0, segments - length + 1)), length, segments)

    def of(self, values: Tensor, name: str) -> Tensor:
        """Cut a stream, (B, tokens, D); a clip of one segment or all segments stays whole."""
        if self._length == self._segments:
            return values
        per_segment = {"clip": CLIP_FPS * SEGMENT_S, "sync": float(SEGMENT_TOKENS)}.get(
            name, values.shape[1] / self._segments
        )
        start, length = round(self._start * per_segment), max(1, round(self._length * per_segment))
        return values[:, start : start + length]


@torch.no_grad()
def new_flow(variant: Variant, features: Shards, empty_text: Tensor) -> FlowNetwork:
    """Make a network with first values, the latents' statistics, and what CLIP says of the empty text."""
    flow = FlowNetwork(variant.flow, variant.mode.latent_channels)
    give_first_values(flow, "flow")
    mean, std = latent_statistics(features)
    flow.latent_mean.copy_(mean)
    flow.latent_std.copy_(std)
    flow.empty_string_feat.copy_(empty_text)
    flow.empty_string_feat.requires_grad_(False)
    return flow
