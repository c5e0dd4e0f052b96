"""CPU seconds of the device thread, which load on the machine does not change: saved by batching, and by the features
of a video that is used for a second prompt."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np
import torch

from mmaudio_model.features import Features
from mmaudio_model.media.frames import VideoFrames
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS, Variant, get_variant

Result = TypeVar("Result")
SHARED = 4


def main() -> None:
    torch.set_num_threads(1)
    variant = get_variant("tiny_16k")
    pipeline = Pipeline.load(variant)
    requests = [
        GenerationRequest(duration_s=1.0, seed=seed, prompt=f"prompt {seed}", video=_video(variant, 1.0, seed))
        for seed in range(SHARED)
    ]
    pipeline.generate(requests[:1])
    alone_s, _ = _cpu_s(lambda: [pipeline.generate([request]) for request in requests])
    together_s, _ = _cpu_s(lambda: pipeline.generate(requests))
    print(f"{SHARED} sounds of 1 s: {alone_s:.2f} s alone, {together_s:.2f} s in one batch: ", end="")
    print(f"{alone_s / together_s:.2f} times the throughput")

    first = GenerationRequest(duration_s=8.0, seed=1, prompt="rain", video=_video(variant, 8.0, 1))
    pipeline.encode([first])
    fresh_s, encoded = _cpu_s(lambda: pipeline.encode([first]))
    known: Features = replace(encoded.features[0].cpu(), text=None)
    again_s, _ = _cpu_s(lambda: pipeline.encode([replace(first, video=None, prompt="a dog", features=known)]))
    print(f"encoding 8 s of video: {fresh_s * 1000:.0f} ms, for a second prompt {again_s * 1000:.1f} ms: ", end="")
    print(f"{fresh_s / again_s:.0f} times shorter")


def _cpu_s(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return the lower CPU time of two runs in this thread, and the result."""
    durations = []
    for _ in range(2):
        began = time.thread_time()
        result = work()
        durations.append(time.thread_time() - began)
    return min(durations), result


def _video(variant: Variant, seconds: float, seed: int) -> VideoFrames:
    def frames(fps: int, size: int) -> np.ndarray:
        generator = np.random.default_rng(seed)
        return generator.integers(0, 256, (int(seconds * fps), size, size, 3), dtype=np.uint8)

    return VideoFrames(
        frames(CLIP_FPS, variant.clip.frame_size), frames(SYNC_FPS, variant.sync.frame_size), duration_s=seconds
    )


if __name__ == "__main__":
    main()
