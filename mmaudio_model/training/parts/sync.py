"""Synchformer's visual encoder: from sixteen frames it must tell what is heard while they are shown.

The published encoder learned whether sound and picture fit (Iashin et al. 2024, arXiv 2401.16423). Ours predicts the
sound itself, coarsely: the level of groups of mel bands, and where it rises. That needs no pairs of wrong offsets, and
asks each token for what the flow network needs of it: what happens now, to a fraction of a frame.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmaudio_model.lengths import segment_frames
from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.networks.synchformer import SynchformerVisual
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.first_values import give_first_values
from mmaudio_model.training.parts.vae import mel_statistics
from mmaudio_model.training.task import Batch, Draw, Losses, draw_clips, waveforms
from mmaudio_model.variants import SEGMENT_TOKENS, SYNC_FPS, Variant

BAND_GROUPS = 16
PARTS_A_TOKEN = 2
"""A token answers for one frame's time, 40 ms, in this many parts."""
SEGMENTS_A_CLIP = 4
RISE_WEIGHT = 1.0
BRIGHTNESS = 0.2


class SyncTraining(nn.Module):
    """Forward gives the losses of a batch of segments and the sound beside them."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.sync = SynchformerVisual(variant.sync)
        give_first_values(self.sync, "sync")
        self.head = nn.Linear(variant.sync.width, 2 * BAND_GROUPS * PARTS_A_TOKEN)

    def forward(self, batch: Batch) -> Losses:
        frames = batch["frames"].permute(0, 1, 4, 2, 3).float() / 255 * batch["brightness"][:, None, None, None, None]
        # On a CPU the plain kernel takes half the time for groups of nine tokens.
        with sdpa_kernel(SDPBackend.MATH) if frames.device.type == "cpu" else nullcontext():
            tokens = self.sync(frames.clamp(max=1.0) * 2 - 1)  # (B, 8, D): one segment each
        said = self.head(tokens).float()
        level, rise = said.chunk(2, dim=-1)
        of_level = F.mse_loss(level, batch["level"])
        of_rise = F.mse_loss(rise, batch["rise"])
        return {"loss": of_level + RISE_WEIGHT * of_rise, "level": of_level, "rise": of_rise}


class SyncTask:
    """Trains the encoder on random segments, a few of each clip."""

    parts = MappingProxyType({"sync": "sync"})

    def __init__(self, variant: Variant, shards: Shards) -> None:
        self._shards = shards
        self._seen = np.array(segment_frames(variant, SEGMENT_TOKENS)[0])
        self._mel = MelSpectrogram(variant.mode)
        self._mel_rate = variant.sample_rate_hz / variant.mode.hop
        self._mean, self._std = mel_statistics(self._mel, shards)
        self._rise_scale = self._typical_rise()
        self.module = SyncTraining(variant)

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch:
        """Draw `size` clips; the batch has SEGMENTS_A_CLIP times as many segments."""
        indices = draw_clips(self._shards, draw, size, validation=validation)
        level, rise = self._heard(waveforms(self._shards, indices))
        frames, levels, rises = [], [], []
        for row, index in enumerate(indices):
            shown = self._shards.get("sync_frames", index)
            for start in draw.numpy.integers(0, len(shown) - SEGMENT_TOKENS + 1, SEGMENTS_A_CLIP):
                frames.append(shown[np.minimum(start + self._seen, len(shown) - 1)])
                levels.append(level[row, start : start + SEGMENT_TOKENS])
                rises.append(rise[row, start : start + SEGMENT_TOKENS])
        brightness = draw.numpy.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS, len(frames)).astype(np.float32)
        return {
            "frames": torch.from_numpy(np.stack(frames)),
            "brightness": torch.from_numpy(brightness),
            "level": torch.stack(levels),
            "rise": torch.stack(rises),
        }

    @torch.no_grad()
    def _heard(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Return level and rise beside each frame, each (B, frames, groups * parts), about unit variance.

        The rise is its root: a soft blow shall be seen like a hard one.
        """
        level = self._levels(waveform)
        rise = (F.pad(level[..., 1:] - level[..., :-1], (1, 0)).clamp(min=0) / self._rise_scale).sqrt()
        return _beside_frames(level), _beside_frames(rise)

    def _levels(self, waveform: Tensor) -> Tensor:
        """Return the mel bands' levels in groups, (B, groups, frames * parts)."""
        mel = (self._mel(waveform) - self._mean) / self._std
        groups = F.adaptive_avg_pool1d(mel.transpose(1, 2), BAND_GROUPS).transpose(1, 2)
        moments = round(mel.shape[-1] / self._mel_rate * SYNC_FPS) * PARTS_A_TOKEN
        return F.interpolate(groups, size=moments, mode="linear", align_corners=False)

    def _typical_rise(self) -> float:
        level = self._levels(waveforms(self._shards, list(range(min(64, len(self._shards))))))
        return float((level[..., 1:] - level[..., :-1]).clamp(min=0).std().clamp(min=1e-3))


def _beside_frames(moments: Tensor) -> Tensor:
    return rearrange(moments, "B G (F P) -> B F (G P)", P=PARTS_A_TOKEN)
