"""Renders a scene at any time and size: static background, silent objects, and the subject in front."""

from __future__ import annotations

import math

import numpy as np

from mmaudio_model.procedural_world.backdrop import paint_backdrop
from mmaudio_model.procedural_world.canvas import SUPERSAMPLING, Canvas, View
from mmaudio_model.procedural_world.scene import Scene


class Painter:
    """Renders frames of one scene at one size; reuses the background for all frames."""

    def __init__(self, scene: Scene, height: int, width: int) -> None:
        self._scene = scene
        self._size = (width * SUPERSAMPLING, height * SUPERSAMPLING)
        camera = scene.setting.camera
        scale = height * SUPERSAMPLING * camera.zoom
        self._margin = math.ceil(max(camera.sway) * scale)
        wide, tall = self._size
        self._view = View(wide, tall, scale, wide / 2, tall * (1 - camera.ground_at))
        margin = self._margin
        whole = View(
            wide + 2 * margin, tall + 2 * margin, scale, self._view.origin_x + margin, self._view.origin_y + margin
        )
        self._backdrop = paint_backdrop(scene.setting, whole)

    def frame(self, time_s: float) -> np.ndarray:
        """Return the picture at this time, uint8 (H, W, 3)."""
        scene = self._scene
        right, up = scene.setting.camera.offset(time_s)
        # Whole pixels, so that subject and background move together.
        right_px, down_px = round(right * self._view.scale), round(-up * self._view.scale)
        left, top = self._margin - right_px, self._margin - down_px
        image = self._backdrop.crop((left, top, left + self._size[0], top + self._size[1]))
        canvas = Canvas(image, self._view.moved(right_px, down_px))
        for distractor in scene.setting.distractors:
            distractor.draw(canvas, time_s)
        scene.subject.draw(canvas, time_s)
        return np.asarray(image.reduce(SUPERSAMPLING))


def draw_frame(scene: Scene, time_s: float, height: int, width: int) -> np.ndarray:
    """Return the picture at any time, uint8 (height, width, 3), RGB."""
    return Painter(scene, height, width).frame(time_s)


def draw_frames(scene: Scene, *, fps: float, height: int, width: int) -> np.ndarray:
    """Return the whole clip, uint8 (T, height, width, 3), RGB, T = round(duration * fps); frame k shows k / fps."""
    painter = Painter(scene, height, width)
    frames = np.empty((round(scene.duration_s * fps), height, width, 3), dtype=np.uint8)
    for index in range(len(frames)):
        frames[index] = painter.frame(index / fps)
    return frames
