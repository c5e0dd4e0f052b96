"""Training clips from the procedural world, sampled as from a video file of some frame rate and aspect ratio."""

from __future__ import annotations

import numpy as np

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.media.resizing import crop, pillow_resize, stretch
from mmaudio_model.procedural_world.picture import Painter
from mmaudio_model.procedural_world.scene import HELD_OUT_FROM, Scene, make_scene
from mmaudio_model.procedural_world.sound import make_sound
from mmaudio_model.training.data.clip import ClipShape, TrainingClip
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS

VIEWING_STREAM = 2
"""Stream of the random generator for frame rate and aspect ratio; the scene uses the plain seed, its noise stream 1."""
SOURCE_FPS = (24, 25, 30, 60)
ASPECTS = (1.0, 4 / 3, 16 / 9)
MARGIN = 1.1
"""Frames are rendered this much larger than the larger encoder input, so resizing softens them as in real video."""


def world_clip(seed: int, shape: ClipShape) -> TrainingClip:
    """Return the clip for a training seed.

    Raises:
        RequestInvalidError: the seed is held out for evaluation.
    """
    if seed >= HELD_OUT_FROM:
        raise RequestInvalidError(f"Got seed {seed}; seeds from {HELD_OUT_FROM} on are held out for evaluation.")
    scene = make_scene(seed, duration_s=shape.duration_s)
    rng = np.random.default_rng((seed, VIEWING_STREAM))
    fps = SOURCE_FPS[int(rng.integers(len(SOURCE_FPS)))]
    aspect = ASPECTS[int(rng.integers(len(ASPECTS)))]
    clip_frames, sync_frames = seen_frames(scene, shape, fps=fps, aspect=aspect)
    return TrainingClip(
        f"world-{seed}", make_sound(scene, shape.sample_rate_hz), clip_frames, sync_frames, scene.captions
    )


def seen_frames(scene: Scene, shape: ClipShape, *, fps: int, aspect: float) -> tuple[np.ndarray, np.ndarray]:
    """Return both encoders' frames of a scene, sampled as from a video of this frame rate and aspect ratio."""
    height = round(MARGIN * max(shape.clip_size, shape.sync_size) / 2) * 2
    painter = Painter(scene, height, round(height * aspect / 2) * 2)
    clip_shown = [int(index * fps / CLIP_FPS + 1e-9) for index in range(shape.clip_count)]
    sync_shown = [int(index * fps / SYNC_FPS + 1e-9) for index in range(shape.sync_count)]
    for_clip, for_sync = set(clip_shown), set(sync_shown)
    clip, sync = {}, {}
    for frame in sorted(for_clip | for_sync):
        picture = painter.frame(frame / fps)
        if frame in for_clip:
            clip[frame] = stretch(picture, shape.clip_size, pillow_resize)
        if frame in for_sync:
            sync[frame] = crop(picture, shape.sync_size, pillow_resize)
    return np.stack([clip[frame] for frame in clip_shown]), np.stack([sync[frame] for frame in sync_shown])
