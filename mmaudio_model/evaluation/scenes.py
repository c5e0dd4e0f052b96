"""Held-out scenes as model inputs: frames as read from a video file, captions, and the true sound."""

from __future__ import annotations

import numpy as np

from mmaudio_model.evaluation.sounds import JUDGED_RATE_HZ
from mmaudio_model.lengths import frame_counts
from mmaudio_model.media.frames import VideoFrames
from mmaudio_model.media.resizing import crop, stretch, torch_resize
from mmaudio_model.procedural_world.picture import Painter
from mmaudio_model.procedural_world.scene import CLASSES, HELD_OUT_FROM, Scene, make_scene
from mmaudio_model.procedural_world.sound import make_sound
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS, Variant

PICTURE_HEIGHT, PICTURE_WIDTH = 180, 320
"""Differs from the encoders' square inputs, so that resizing is part of the evaluation."""


def held_out_scenes(count: int, duration_s: float) -> list[Scene]:
    """Return held-out scenes, cycling through the classes, so that any number of them is balanced."""
    return [
        make_scene(HELD_OUT_FROM + index, duration_s=duration_s, class_name=CLASSES[index % len(CLASSES)])
        for index in range(count)
    ]


def true_sound(scene: Scene) -> np.ndarray:
    """Return the scene's true sound, float32 (samples,), at JUDGED_RATE_HZ."""
    return make_sound(scene, JUDGED_RATE_HZ)


def true_onsets_s(scene: Scene) -> list[float]:
    return [event.time_s for event in scene.events]


def render_frames(scene: Scene, variant: Variant) -> VideoFrames:
    """Return the frames that reading a 25 fps, 16:9 video of the scene would give."""
    painter = Painter(scene, PICTURE_HEIGHT, PICTURE_WIDTH)
    clips, syncs = frame_counts(scene.duration_s)
    # At 8 fps, the frame shown at that instant is used.
    clip_indices = [index * SYNC_FPS // CLIP_FPS for index in range(clips)]
    pictures = [painter.frame(index / SYNC_FPS) for index in range(max(syncs, clip_indices[-1] + 1))]
    return VideoFrames(
        clip=np.stack([stretch(pictures[index], variant.clip.frame_size, torch_resize) for index in clip_indices]),
        sync=np.stack([crop(picture, variant.sync.frame_size, torch_resize) for picture in pictures[:syncs]]),
        duration_s=scene.duration_s,
    )
