"""Training of Synchformer's visual encoder: it predicts the sound at each frame from a few frames.

The published encoder was trained to classify audio-visual offsets (Iashin et al. 2024, arXiv 2401.16423). Ours
regresses coarse targets of the sound: the level of groups of mel bands, how much they rise, and the proximity of the
previous and next onset. This needs no pairs with wrong offsets, and trains each token for what the flow network needs:
events at sub-frame precision. Proximity is non-zero at many frames around an onset, so it is learned long before the
rise.
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
"""A token covers the time of one frame, 40 ms, in this many parts."""
SEGMENTS_A_CLIP = 4
STATISTICS_CLIPS = 64
RISE_WEIGHT, PROXIMITY_WEIGHT = 1.0, 2.0
PROXIMITY_S = 0.12
"""Proximity falls to 1 / e over this time before and after an onset."""
ONSET_STRENGTH = 1.5
"""Onset threshold on the rise averaged over the groups, in standard deviations."""
AT_RISES_SHARE = 0.6
"""Share of the segments drawn in proportion to the rise; the others are drawn uniformly."""
BRIGHTNESS = 0.2


class SyncTraining(nn.Module):
    """Forward returns the losses of a batch of segments and their targets."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.sync = SynchformerVisual(variant.sync)
        initialise(self.sync, "sync")
        self.head = nn.Linear(variant.sync.width, (2 * BAND_GROUPS + 2) * PARTS_A_TOKEN)

    def forward(self, batch: Batch) -> Losses:
        frames = batch["frames"].permute(0, 1, 4, 2, 3).float() / 255 * batch["brightness"][:, None, None, None, None]
        # On a CPU the math kernel takes half the time for groups of nine tokens.
        with sdpa_kernel(SDPBackend.MATH) if frames.device.type == "cpu" else nullcontext():
            tokens = self.sync(frames.clamp(max=1.0) * 2 - 1)  # (B, 8, D): one segment each
        predicted = self.head(tokens).float()
        level, rise, proximity = predicted.split([BAND_GROUPS * PARTS_A_TOKEN] * 2 + [2 * PARTS_A_TOKEN], dim=-1)
        of_level = F.mse_loss(level, batch["level"])
        of_rise = F.mse_loss(rise, batch["rise"])
        of_proximity = F.mse_loss(proximity, batch["proximity"]) / batch["proximity"].var().clamp(min=1e-2)
        return {
            "loss": of_level + RISE_WEIGHT * of_rise + PROXIMITY_WEIGHT * of_proximity,
            "level": of_level,
            "rise": of_rise / batch["rise"].var(),
            "proximity": of_proximity,
        }


class SyncTask:
    """Trains the encoder on random segments, a few of each clip."""

    parts = MappingProxyType({"sync": "sync"})

    def __init__(self, variant: Variant, shards: Shards) -> None:
        self._shards = shards
        self._segment_frames = np.array(segment_frames(variant, SEGMENT_TOKENS)[0])
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
        level, rise, proximity = self._targets(waveforms(self._shards, indices))
        frames, levels, rises, proximities = [], [], [], []
        for row, index in enumerate(indices):
            frame_array = self._shards.get("sync_frames", index)
            for start in self._starts(rise[row], draw):
                frames.append(frame_array[np.minimum(start + self._segment_frames, len(frame_array) - 1)])
                levels.append(level[row, start : start + SEGMENT_TOKENS])
                rises.append(rise[row, start : start + SEGMENT_TOKENS])
                proximities.append(proximity[row, start : start + SEGMENT_TOKENS])
        brightness = draw.numpy.uniform(1 - BRIGHTNESS, 1 + BRIGHTNESS, len(frames)).astype(np.float32)
        return {
            "frames": torch.from_numpy(np.stack(frames)),
            "brightness": torch.from_numpy(brightness),
            "level": torch.stack(levels),
            "rise": torch.stack(rises),
            "proximity": torch.stack(proximities),
        }

    @torch.no_grad()
    def _targets(self, waveform: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return level, rise and proximity at each frame, each (B, frames, groups * parts).

        Level and rise have about unit variance; the proximity of the previous and of the next onset is in 0..1.
        """
        level = self._levels(waveform)
        rise = (self._rises(level) - self._rise_mean) / self._rise_std
        proximity = torch.stack([_proximity(row) for row in rise.mean(1).numpy()])
        return _by_frame(level), _by_frame(rise), _by_frame(proximity)

    def _levels(self, waveform: Tensor) -> Tensor:
        """Return the mean level of each group of mel bands, (B, groups, frames * parts)."""
        mel = (self._mel(waveform) - self._mean) / self._std
        groups = F.adaptive_avg_pool1d(mel.transpose(1, 2), BAND_GROUPS).transpose(1, 2)
        moments = round(mel.shape[-1] / self._mel_rate * SYNC_FPS) * PARTS_A_TOKEN
        return F.interpolate(groups, size=moments, mode="linear", align_corners=False)

    @staticmethod
    def _rises(level: Tensor) -> Tensor:
        """Return the square root of each group's rise, which gives soft and hard impacts similar weight."""
        return F.pad(level[..., 1:] - level[..., :-1], (1, 0)).clamp(min=0).sqrt()

    @staticmethod
    def _starts(rise: Tensor, draw: Draw) -> np.ndarray:
        """Return the start frames of a clip's segments, int64 (SEGMENTS_A_CLIP,)."""
        last = len(rise) - SEGMENT_TOKENS
        anywhere = draw.numpy.integers(0, last + 1, SEGMENTS_A_CLIP)
        strength = rise.mean(-1).numpy()
        weight = np.clip(strength - strength.mean(), 1e-6, None).astype(np.float64) ** 2
        at_rises = draw.numpy.choice(len(rise), SEGMENTS_A_CLIP, p=weight / weight.sum())
        at_rises = np.clip(at_rises - draw.numpy.integers(0, SEGMENT_TOKENS, SEGMENTS_A_CLIP), 0, last)
        return np.where(draw.numpy.random(SEGMENTS_A_CLIP) < AT_RISES_SHARE, at_rises, anywhere)


def _proximity(strength: np.ndarray) -> Tensor:
    """Return the proximity of the previous and next onset, float32 (2, moments), from the rise at each moment."""
    moment_s = 1 / (SYNC_FPS * PARTS_A_TOKEN)
    onsets, _ = find_peaks(strength, height=ONSET_STRENGTH, distance=round(PROXIMITY_S / moment_s))
    moments = np.arange(len(strength))
    since = _moments_since(moments, onsets)
    until = _moments_since(moments, len(strength) - 1 - onsets[::-1])[::-1]
    return torch.from_numpy(np.exp(-np.stack([since, until]) * moment_s / PROXIMITY_S).astype(np.float32))


def _moments_since(moments: np.ndarray, onsets: np.ndarray) -> np.ndarray:
    """Return the moments since the last onset; infinity before the first."""
    last = np.searchsorted(onsets, moments, side="right") - 1
    return np.where(last >= 0, moments - np.append(onsets, 0)[last], np.inf)


def _by_frame(moments: Tensor) -> Tensor:
    return rearrange(moments, "B G (F P) -> B F (G P)", P=PARTS_A_TOKEN)
