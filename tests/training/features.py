"""Extracted features for tests of the flow network's training."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from mmaudio_model.lengths import sequence_lengths
from mmaudio_model.training.data.shards import Shards, write_shard
from mmaudio_model.variants import Variant


def write_features(folder: Path, variant: Variant, duration_s: float, count: int = 3) -> Shards:
    """Write features whose every token is the time in seconds at which it begins."""
    lengths = sequence_lengths(variant, duration_s)
    mode, flow = variant.mode, variant.flow

    def times(tokens: int, rate: float, channels: int) -> np.ndarray:
        return np.broadcast_to((np.arange(tokens) / rate)[:, None], (tokens, channels)).astype(np.float16)

    latent_rate = mode.sample_rate_hz / mode.hop / 2
    clip = {
        "latent_mean": times(lengths.latent, latent_rate, mode.latent_channels),
        "latent_std": np.zeros((lengths.latent, mode.latent_channels), np.float16),
        "clip": times(lengths.clip, 8, flow.clip_dim),
        "sync": times(lengths.sync, 25, flow.sync_dim),
        "text": np.zeros((5, 77, flow.text_dim), np.float16),
    }
    write_shard(folder / "00000", [clip] * count, [{"name": str(index)} for index in range(count)])
    return Shards(folder)
