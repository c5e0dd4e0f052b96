"""A small video of our own, rendered and encoded here: `make demo` and the tests use it.

It is a scene of the procedural world that no training saw, so when its ball hits is known exactly.
"""

from __future__ import annotations

from pathlib import Path

from mmaudio_model.procedural_world.scene import HELD_OUT_FROM, Scene, make_scene
from mmaudio_model.procedural_world.video import write_video

SEED = HELD_OUT_FROM + 5
WIDTH, HEIGHT, FPS = 640, 360, 25


def demo_scene(seconds: float = 6.0) -> Scene:
    """Return the scene: a wooden ball that bounces."""
    return make_scene(SEED, duration_s=seconds, class_name="ball_wood")


def render_demo_video(path: Path, seconds: float = 6.0) -> None:
    """Write the video without sound: H.264, 640x360, 25 frames a second, the same bytes for the same FFmpeg."""
    write_video(demo_scene(seconds), path, fps=FPS, height=HEIGHT, width=WIDTH)
