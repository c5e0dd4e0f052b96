"""Rendering speed of the procedural world, in 8 s clips (as training uses them) per hour.

    python -m benchmarks.procedural_world

Frames of 96 pixels at 8 fps and of 112 pixels at 25 fps, and audio at 16 kHz; one process, one core. The baseline is
real time.
"""

from __future__ import annotations

import os
import statistics
import time

from mmaudio_model.procedural_world.picture import draw_frames
from mmaudio_model.procedural_world.scene import CLASSES, make_scene
from mmaudio_model.procedural_world.sound import make_sound

DURATION_S = 8.0
CLIPS_A_CLASS = 3
HOUR_S = 3600


def main() -> None:
    print(f"{'class':<14}{'picture, s':>12}{'sound, s':>10}{'clips/hour':>12}{'times real time':>17}")
    seconds = []
    for class_name in CLASSES:
        picture, sound = zip(*(_rendered_s(seed, class_name) for seed in range(CLIPS_A_CLASS)), strict=True)
        picture_s, sound_s = statistics.mean(picture), statistics.mean(sound)
        seconds.append(picture_s + sound_s)
        _print_row(class_name, picture_s, sound_s)
    clip_s = statistics.mean(seconds)
    cores = os.cpu_count() or 1
    print(
        f"all classes: {HOUR_S / clip_s:,.0f} clips/hour on one core, {cores * HOUR_S / clip_s:,.0f} on {cores}, "
        f"{DURATION_S / clip_s:.0f} times real time; slowest class {max(seconds):.2f} s per clip"
    )


def _rendered_s(seed: int, class_name: str) -> tuple[float, float]:
    """Return the seconds for rendering picture and sound of one clip."""
    begin = time.perf_counter()
    scene = make_scene(seed, duration_s=DURATION_S, class_name=class_name)
    draw_frames(scene, fps=8, height=96, width=96)
    draw_frames(scene, fps=25, height=112, width=112)
    drawn = time.perf_counter()
    make_sound(scene, 16_000)
    return drawn - begin, time.perf_counter() - drawn


def _print_row(name: str, picture_s: float, sound_s: float) -> None:
    clip_s = picture_s + sound_s
    print(
        f"{name:<14}{picture_s:>12.2f}{sound_s:>10.3f}{HOUR_S / clip_s:>12,.0f}{DURATION_S / clip_s:>17.0f}", flush=True
    )


if __name__ == "__main__":
    main()
