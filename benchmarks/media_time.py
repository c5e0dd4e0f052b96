"""Time for decoding, audio file and mux of an 8 s 1080p clip in `generate`, compared with the published program.

    python -m benchmarks.media_time --reference MMAudio --reference-python PYTHON --weights FOLDER --variants small_16k

The clip (H.264, 30 fps, 10 s) is rendered by `draw_clip`. CLIP is masked and sampling takes two steps: neither is media
time, and on a CPU they would take ten minutes.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path

import av
import numpy as np

from benchmarks.comparison.programs import Programs

FPS, SECONDS, WIDTH, HEIGHT = 30, 10, 1920, 1080


def main() -> None:
    programs, options = Programs.from_command_line(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        draw_clip(clip)
        print(f"{'program':<24}{'media, s':>10}{'peak GB':>9}{'times faster':>14}")
        variant = options.variants[0]
        arguments = ["--variant", variant, "--video", str(clip), "--duration", "8"]
        ours = [*arguments, "--mask-away-clip", "--num-steps", "2", "--full-precision"]
        reference = [*arguments, "--mask_away_clip", "--num_steps", "2", "--full_precision"]
        base, found = [], []
        for _ in range(options.rounds):
            base.append(programs.run_reference(*reference))
            found.append(programs.run_ours(*ours))
    base_s = statistics.median(run["media_s"] for run in base)
    for name, runs in (("published (baseline)", base), ("ours", found)):
        seconds = statistics.median(run["media_s"] for run in runs)
        peak = max(run["peak_bytes"] for run in runs) / 1e9
        print(f"{name:<24}{seconds:>10.2f}{peak:>9.2f}{base_s / seconds:>14.1f}")


def draw_clip(path: Path) -> None:
    """Render a clip that is hard to encode: a moving gradient with noise of a fixed seed."""
    random = np.random.default_rng(0)
    noise = random.integers(0, 40, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    ramp = np.linspace(0, 200, WIDTH, dtype=np.uint8)[None, :, None]
    with av.open(str(path), "w") as out:
        stream = out.add_stream("libx264", rate=FPS, options={"preset": "veryfast", "crf": "20"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for number in range(FPS * SECONDS):
            picture = np.roll(ramp, number * 7, axis=1) + np.roll(noise, number * 3, axis=0)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")))
        out.mux(stream.encode())


if __name__ == "__main__":
    main()
