"""A small rendered video for `make demo` and the tests.

It shows a held-out scene of the procedural world, so the exact times of its impacts are known.
"""

from __future__ import annotations

from pathlib import Path

from mmaudio_model.procedural_world.scene import HELD_OUT_FROM, Scene, make_scene
from mmaudio_model.procedural_world.video import write_video

SEED = HELD_OUT_FROM + 5
WIDTH, HEIGHT, FPS = 640, 360, 25


def demo_scene(seconds: float = 6.0) -> Scene:
    """Return the scene: a bouncing wooden ball."""
    return make_scene(SEED, duration_s=seconds, class_name="ball_wood")


def render_demo_video(path: Path, seconds: float = 6.0) -> None:
    """Write the video without sound: H.264, 640x360, 25 fps; the same FFmpeg gives the same bytes."""
    write_video(demo_scene(seconds), path, fps=FPS, height=HEIGHT, width=WIDTH)
