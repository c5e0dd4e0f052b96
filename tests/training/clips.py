"""Small training clips and features that cost nothing to make: bursts of noise, pictures of grey noise."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from mmaudio_model.training.data.clip import ClipShape, TrainingClip
from mmaudio_model.training.data.prepare import SOURCE
from mmaudio_model.training.data.shards import write_shard

SMALL = ClipShape(duration_s=0.64, sample_rate_hz=16_000, clip_size=96, sync_size=80)


def small_clip(name: str, shape: ClipShape = SMALL) -> TrainingClip:
    """Return the clip of a number; the picture is as bright as the sound is loud."""
    rng = np.random.default_rng(int(name))
    loudness = rng.uniform(0.1, 0.9)
    grey = round(255 * loudness)
    return TrainingClip(
        name,
        (loudness * rng.uniform(-1, 1, shape.samples)).astype(np.float32),
        rng.integers(grey // 2, grey + 1, (shape.clip_count, shape.clip_size, shape.clip_size, 3), np.uint8),
        rng.integers(grey // 2, grey + 1, (shape.sync_count, shape.sync_size, shape.sync_size, 3), np.uint8),
        (f"noise of loudness {loudness:.1f}", "noise"),
    )


def write_clips(folder: Path, count: int, shape: ClipShape = SMALL) -> Path:
    """Write a prepared folder of one shard."""
    clips = [small_clip(str(number), shape) for number in range(count)]
    arrays = (
        {
            "waveform": np.round(clip.waveform * 32767).astype(np.int16),
            "clip_frames": clip.clip_frames,
            "sync_frames": clip.sync_frames,
        }
        for clip in clips
    )
    write_shard(folder / "00000", arrays, [{"name": clip.name, "captions": list(clip.captions)} for clip in clips])
    (folder / SOURCE).write_text(json.dumps(asdict(shape)))
    return folder
