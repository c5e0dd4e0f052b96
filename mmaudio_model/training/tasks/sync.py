"""Synchformer's visual encoder: from a few frames it must tell what is heard while they are shown.

The published encoder learned whether sound and picture fit (Iashin et al. 2024, arXiv 2401.16423). Ours predicts the
sound itself, coarsely: the level of groups of mel bands, where they rise, and how near the last and the next onset are.
That needs no pairs of wrong offsets, and asks each token for what the flow network needs of it: what happens now, to a
fraction of a frame. Nearness is told of many frames around an onset, so it is learned long before the rise itself.
"""

from __future__ import annotations

from contextlib import nullcontext
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from scipy.signal import find_peaks
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from mmaudio_model.lengths import segment_frames
from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.networks.synchformer import SynchformerVisual
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.initialisation.defaults import initialise
from mmaudio_model.training.initialisation.pca_patches import initialise_from_patches
from mmaudio_model.training.task import Batch, Draw, Losses, draw_clips, waveforms
from mmaudio_model.training.tasks.vae import mel_statistics
from mmaudio_model.variants import SEGMENT_TOKENS, SYNC_FPS, Variant

BAND_GROUPS = 16
PARTS_A_TOKEN = 2
"""A token answers for one frame's time, 40 ms, in this many parts."""
SEGMENTS_A_CLIP = 4
STATISTICS_CLIPS = 64
RISE_WEIGHT, NEARNESS_WEIGHT = 1.0, 2.0
NEAR_S = 0.12
"""Nearness falls to 1 / e over this time, before an onset and behind it."""
ONSET_STRENGTH = 1.5
"""Of a rise, averaged over the groups, in standard deviations: what counts as an onset."""
AT_RISES = 0.6
"""Of the segments: where the sound rises, in proportion; the others anywhere."""
BRIGHTNESS = 0.2


class SyncTraining(nn.Module):
    """Forward gives the losses of a batch of segments and the sound beside them."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.sync = SynchformerVisual(variant.sync)
        initialise(self.sync, "sync")
        self.head = nn.Linear(variant.sync.width, (2 * BAND_GROUPS + 2) * PARTS_A_TOKEN)

    def forward(self, batch: Batch) -> Losses:
        frames = batch["frames"].permute(0, 1, 4, 2, 3).float() / 255 * batch["brightness"][:, None, None, None, None]
        # On a CPU the plain kernel takes half the time for groups of nine tokens.
        with sdpa_kernel(SDPBackend.MATH) if frames.device.type == "cpu" else nullcontext():
            tokens = self.sync(frames.clamp(max=1.0) * 2 - 1)  # (B, 8, D): one segment each
        said = self.head(tokens).float()
        level, rise, nearness = said.split([BAND_GROUPS * PARTS_A_TOKEN] * 2 + [2 * PARTS_A_TOKEN], dim=-1)
        of_level = F.mse_loss(level, batch["level"])
        of_rise = F.mse_loss(rise, batch["rise"])
        of_nearness = F.mse_loss(nearness, batch["nearness"]) / batch["nearness"].var().clamp(min=1e-2)
        return {
            "loss": of_level + RISE_WEIGHT * of_rise + NEARNESS_WEIGHT * of_nearness,
            "level": of_level,
            "rise": of_rise / batch["rise"].var(),
            "nearness": of_nearness,
        }


class SyncTask:
    """Trains the encoder on random segments, a few of each clip."""

    parts = MappingProxyType({"sync": "sync"})

    def __init__(self, variant: Variant, shards: Shards) -> None:
        self._shards = shards
        self._seen = np.array(segment_frames(variant, SEGMENT_TOKENS)[0])
        self._mel = MelSpectrogram(variant.mode)
        self._mel_rate = variant.sample_rate_hz / variant.mode.hop
        self._mean, self._std = mel_statistics(self._mel, shards)
        rises = self._rises(self._levels(waveforms(shards, list(range(min(STATISTICS_CLIPS, len(shards)))))))
        self._rise_mean, self._rise_std = rises.mean(), rises.std().clamp(min=1e-3)
        self.module = SyncTraining(variant)
        initialise_from_patches(self.module.sync, shards)

    def draw_batch(self, draw: Draw, size: int, *, validation: bool) -> Batch:
        """Draw `size` clips; the batch has SEGMENTS_A_CLIP times as many segments."""
        indices = draw_clips(self._shards, draw, size, validation=validation)
        level, rise, nearness = self._heard(waveforms(self._shards, indices))
        frames, levels, rises, nearnesses = [], [], [], []
        for row, index in enumerate(indices):
            shown = self._shards.get("sync_frames", index)
            for start in self._starts(rise[row], draw):
                frames.append(shown[np.minimum(start + self._seen, len(shown) - 1)])
                levels.append(level[row, start : start + SEGMENT_TOKENS])
                rises.append(rise[row, start : start + SEGMENT_TOKENS])
                nearnesses.append(nearness[row, start : start + SEGMENT_TOKENS])
        brightness = draw.numpy.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS, len(frames)).astype(np.float32)
        return {
            "frames": torch.from_numpy(np.stack(frames)),
            "brightness": torch.from_numpy(brightness),
            "level": torch.stack(levels),
            "rise": torch.stack(rises),
            "nearness": torch.stack(nearnesses),
        }

    @torch.no_grad()
    def _heard(self, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return level, rise and nearness beside each frame, each (B, frames, groups * parts).

        Level and rise have about unit variance; nearness, of the last and of the next onset, lies in 0..1.
        """
        level = self._levels(waveform)
        rise = (self._rises(level) - self._rise_mean) / self._rise_std
        nearness = torch.stack([_nearness(row) for row in rise.mean(1).numpy()])
        return _beside_frames(level), _beside_frames(rise), _beside_frames(nearness)

    def _levels(self, waveform: Tensor) -> Tensor:
        """Return the mel bands' levels in groups, (B, groups, frames * parts)."""
        mel = (self._mel(waveform) - self._mean) / self._std
        groups = F.adaptive_avg_pool1d(mel.transpose(1, 2), BAND_GROUPS).transpose(1, 2)
        moments = round(mel.shape[-1] / self._mel_rate * SYNC_FPS) * PARTS_A_TOKEN
        return F.interpolate(groups, size=moments, mode="linear", align_corners=False)

    @staticmethod
    def _rises(level: Tensor) -> Tensor:
        """Return the root of how much each group rises: a soft blow shall be seen like a hard one."""
        return F.pad(level[..., 1:] - level[..., :-1], (1, 0)).clamp(min=0).sqrt()

    @staticmethod
    def _starts(rise: Tensor, draw: Draw) -> np.ndarray:
        """Return the first frames of a clip's segments."""
        last = len(rise) - SEGMENT_TOKENS
        anywhere = draw.numpy.integers(0, last + 1, SEGMENTS_A_CLIP)
        strength = rise.mean(-1).numpy()
        weight = np.clip(strength - strength.mean(), 1e-6, None).astype(np.float64) ** 2
        at_rises = draw.numpy.choice(len(rise), SEGMENTS_A_CLIP, p=weight / weight.sum())
        at_rises = np.clip(at_rises - draw.numpy.integers(0, SEGMENT_TOKENS, SEGMENTS_A_CLIP), 0, last)
        return np.where(draw.numpy.random(SEGMENTS_A_CLIP) < AT_RISES, at_rises, anywhere)


def _nearness(strength: np.ndarray) -> Tensor:
    """Return how near the last and the next onset are, (2, moments), of a rise's strength at each moment."""
    moment_s = 1 / (SYNC_FPS * PARTS_A_TOKEN)
    onsets, _ = find_peaks(strength, height=ONSET_STRENGTH, distance=round(NEAR_S / moment_s))
    moments = np.arange(len(strength))
    since = _moments_since(moments, onsets)
    until = _moments_since(moments, len(strength) - 1 - onsets[::-1])[::-1]
    return torch.from_numpy(np.exp(-np.stack([since, until]) * moment_s / NEAR_S).astype(np.float32))


def _moments_since(moments: np.ndarray, onsets: np.ndarray) -> np.ndarray:
    """Return for each moment how long ago the last onset was; infinity before the first."""
    last = np.searchsorted(onsets, moments, side="right") - 1
    return np.where(last >= 0, moments - np.append(onsets, 0)[last], np.inf)


def _beside_frames(moments: Tensor) -> Tensor:
    return rearrange(moments, "B G (F P) -> B F (G P)", P=PARTS_A_TOKEN)
