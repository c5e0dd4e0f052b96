"""Held-out scenes as a model meets them: frames as they would be read from a file, captions, and the true sound."""

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
"""Videos have other sides than the encoders' squares: the project's own resizing is part of what is judged."""


def held_out_scenes(count: int, duration_s: float) -> list[Scene]:
    """Return held-out scenes, all classes in turn, so that any count of them is balanced."""
    return [
        make_scene(HELD_OUT_FROM + index, duration_s=duration_s, class_name=CLASSES[index % len(CLASSES)])
        for index in range(count)
    ]


def true_sound(scene: Scene) -> np.ndarray:
    """Return what the scene really sounds like, float32 (samples,), at JUDGED_RATE_HZ."""
    return make_sound(scene, JUDGED_RATE_HZ)


def true_onsets_s(scene: Scene) -> list[float]:
    return [event.time_s for event in scene.events]


def filmed(scene: Scene, variant: Variant) -> VideoFrames:
    """Return the frames that reading a 25 fps video of the scene would give: 16:9 pictures, resized as always."""
    painter = Painter(scene, PICTURE_HEIGHT, PICTURE_WIDTH)
    clips, syncs = frame_counts(scene.duration_s)
    # At 8 fps one sees the frame that is shown at that instant.
    seen = [index * SYNC_FPS // CLIP_FPS for index in range(clips)]
    pictures = [painter.frame(index / SYNC_FPS) for index in range(max(syncs, seen[-1] + 1))]
    return VideoFrames(
        clip=np.stack([stretch(pictures[index], variant.clip.frame_size, torch_resize) for index in seen]),
        sync=np.stack([crop(picture, variant.sync.frame_size, torch_resize) for picture in pictures[:syncs]]),
        duration_s=scene.duration_s,
    )
