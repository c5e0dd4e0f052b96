"""A small video of our own: a ball that bounces, rendered and encoded here. `make demo` and the tests use it."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
from av.video.frame import VideoFrame

WIDTH, HEIGHT, FPS = 640, 360, 25
RADIUS = 26
GRAVITY = 9.0
"""Pixels a frame squared would depend on the rate; this is in picture heights a second squared."""
RESTITUTION = 0.82
FLOOR = 0.86


def bounce_times(seconds: float) -> list[float]:
    """Return when the ball hits the floor, in seconds: the truth that the picture shows."""
    drop = (2 * (FLOOR - 0.15) / GRAVITY) ** 0.5
    times, flight, now = [], 2 * drop * RESTITUTION, drop
    while now < seconds:
        times.append(now)
        now += flight
        flight *= RESTITUTION
        if flight < 0.12:
            break
    return times


def _height(t: float) -> float:
    """Return the ball's height above the floor at time t, in picture heights."""
    drop = (2 * (FLOOR - 0.15) / GRAVITY) ** 0.5
    if t < drop:
        return (FLOOR - 0.15) - GRAVITY * t * t / 2
    flight, start = 2 * drop * RESTITUTION, drop
    while t > start + flight:
        start += flight
        flight *= RESTITUTION
        if flight < 0.12:
            return 0.0
    inside = t - start
    return GRAVITY * inside * (flight - inside) / 2


def render_demo_video(path: Path, seconds: float = 6.0) -> None:
    """Write the video: H.264, 640x360, 25 frames a second, the same bytes for the same FFmpeg."""
    rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options={"crf": "20", "preset": "veryfast", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(round(seconds * FPS)):
            picture = _picture(index / FPS, rows, columns)
            container.mux(stream.encode(VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def _picture(t: float, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    sky = np.stack([60 + 60 * rows / HEIGHT, 90 + 70 * rows / HEIGHT, 150 + 40 * rows / HEIGHT], -1)
    # Planks that slide by, so that the background moves as well.
    planks = 12 * np.sin((columns + 40 * t) / 18)[..., None]
    floor = np.array([126.0, 92.0, 60.0]) + planks
    scene = np.where((rows > FLOOR * HEIGHT)[..., None], floor, sky)
    above = _height(t)
    centre_y = FLOOR * HEIGHT - RADIUS - above * HEIGHT
    centre_x = WIDTH * (0.25 + 0.5 * (t / 6.0 % 1.0))
    squash = 1.0 + 0.35 * max(0.0, 1.0 - above / 0.03)
    shadow = np.exp(-(((columns - centre_x) / (RADIUS * 1.6)) ** 2 + ((rows - FLOOR * HEIGHT - 8) / 7) ** 2))
    scene = scene * (1 - 0.5 * shadow[..., None] * (rows > FLOOR * HEIGHT)[..., None])
    x, y = (columns - centre_x) / (RADIUS * squash), (rows - centre_y) / (RADIUS / squash)
    ball = np.clip((1 - np.hypot(x, y)) * RADIUS, 0, 1)[..., None]
    light = np.clip(1.15 - 0.5 * np.hypot(x + 0.35, y + 0.35), 0.25, 1.15)[..., None]
    scene = scene * (1 - ball) + ball * light * np.array([226.0, 78.0, 52.0])
    return np.clip(scene, 0, 255).astype(np.uint8)
