"""Training of the flow network: conditional flow matching on straight paths (Lipman et al. 2023, arXiv 2210.02747).

Times are drawn from a logit-normal distribution, as in MMAudio (Esser et al. 2024, arXiv 2403.03206). Conditions are
dropped at random, jointly (for classifier-free guidance) and separately (for text-to-audio and empty prompts).
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
from mmaudio_model.training.initialisation.defaults import initialise
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
"""Probability of each combination of kept conditions, (clip, sync, text)."""
SEGMENT_S = SEGMENT_STRIDE / SYNC_FPS
CROP_SHARE = 0.5
"""Share of batches that are crops of a third or two thirds of the clip, so that other durations work as well."""


class FlowTraining(nn.Module):
    """Forward returns the losses of a batch of latents and features."""

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
        flow: the network to fine-tune; None: create one.
        empty_text: features of the empty text, (77, text_dim); needed to create a network.
    """

    parts = MappingProxyType({"flow": "flow"})

    def __init__(
        self, variant: Variant, features: Shards, *, flow: FlowNetwork | None = None, empty_text: Tensor | None = None
    ) -> None:
        self._features = features
        # Unless a token is one frame (docs/adr/0004), the tokens of a crop differ from a crop of the clip's tokens.
        self._crop_share = CROP_SHARE if variant.sync.token_a_frame else 0.0
        self._latents_a_segment = SEGMENT_S * variant.sample_rate_hz / variant.mode.hop / 2
        if flow is None:
            assert empty_text is not None, "a new network needs the features of the empty text"
            flow = new_flow(variant, features, empty_text)
        self.module = FlowTraining(flow)

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch:
        indices = draw_clips(self._features, draw, size, validation=validation)
        whole = validation or draw.numpy.random() >= self._crop_share
        crop = _Crop.draw(self._features, draw, self._latents_a_segment, whole=whole)
        mean, std, clip, sync = (
            crop.of(self._read(name, indices), rate)
            for name, rate in (
                ("latent_mean", self._latents_a_segment),
                ("latent_std", self._latents_a_segment),
                ("clip", CLIP_FPS * SEGMENT_S),
                ("sync", SEGMENT_TOKENS),
            )
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


class _Crop:
    """A crop of a clip that starts and ends on segment boundaries; None: the whole clip."""

    def __init__(self, segments: tuple[int, int] | None) -> None:
        self._segments = segments

    @classmethod
    def draw(cls, features: Shards, rng: Draw, latents_a_segment: float, *, whole: bool) -> _Crop:
        # Whole segments only: after the last there may be sound without frames.
        segments = int(features.get("latent_mean", 0).shape[0] / latents_a_segment + 1e-6)
        if whole or segments < 3:
            return cls(None)
        length = max(1, round(segments * int(rng.numpy.integers(1, 3)) / 3))
        start = int(rng.numpy.integers(0, segments - length + 1))
        return cls((start, length))

    def of(self, values: Tensor, per_segment: float) -> Tensor:
        """Crop a stream, (B, tokens, D), with `per_segment` tokens per segment."""
        if self._segments is None:
            return values
        start, length = self._segments
        first, count = round(start * per_segment), max(1, round(length * per_segment))
        return values[:, first : first + count]


@torch.no_grad()
def new_flow(variant: Variant, features: Shards, empty_text: Tensor) -> FlowNetwork:
    """Create a network with initial values, the latent statistics, and CLIP's features of the empty text."""
    flow = FlowNetwork(variant.flow, variant.mode.latent_channels)
    initialise(flow, "flow")
    mean, std = latent_statistics(features)
    flow.latent_mean.copy_(mean)
    flow.latent_std.copy_(std)
    flow.empty_string_feat.copy_(empty_text)
    flow.empty_string_feat.requires_grad_(False)
    return flow
