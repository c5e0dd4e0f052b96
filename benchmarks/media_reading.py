"""CPU seconds of reading an 8 s clip for the encoders, against ffmpeg that decodes and scales the same clip.

    python -m benchmarks.media_reading [--kinds 1080p30,1080p60,4K30,4K60] [--rounds 3] [--hevc]

ffmpeg (the one on the path) does half of the work: `-vf fps=25,scale=` to the size of one of the two encoders. Both run
alternately, each in a process of its own; CPU seconds are user and system time. Wanted: at most 1.3 times ffmpeg's.
"""

from __future__ import annotations

import argparse
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

SECONDS, CLIP_SIZE, SYNC_SIZE = 8, 384, 224
KINDS = {"1080p30": (1920, 1080, 30), "1080p60": (1920, 1080, 60), "4K30": (3840, 2160, 30), "4K60": (3840, 2160, 60)}
WANTED_RATIO = 1.3
READ = """
import resource, sys, time
from pathlib import Path
from mmaudio_model.media.frames import read_video_frames
from mmaudio_model.media.probe import MediaLimits
def cpu_s():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
imported_s = cpu_s()
with Path(sys.argv[1]).open("rb") as file:
    read_video_frames(file, start_s=0, duration_s=float(sys.argv[2]), clip_size=int(sys.argv[3]),
                      sync_size=int(sys.argv[4]), limits=MediaLimits())
print(imported_s)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--hevc", action="store_true", help="HEVC instead of H.264")
    options = parser.parse_args()
    ffmpeg = shutil.which("ffmpeg")
    if ffmpeg is None:
        sys.exit("This benchmark compares with ffmpeg, which is not on the path; install it.")
    print(f"{'clip':<10}{'ffmpeg, CPU s':>15}{'ours':>8}{'with imports':>14}{'ratio':>8}, at most {WANTED_RATIO}")
    with tempfile.TemporaryDirectory() as folder:
        for kind in options.kinds.split(","):
            width, height, rate = KINDS[kind]
            clip = Path(folder) / f"{kind}.mp4"
            draw_moving_picture(clip, width, height, rate, codec="libx265" if options.hevc else "libx264")
            scale = f"fps=25,scale={SYNC_SIZE * width // height // 2 * 2}:{SYNC_SIZE}"
            base, found, imports = [], [], []
            for _ in range(options.rounds):
                limits = ("-t", str(SECONDS), "-vf", scale, "-f", "null", "-")
                base.append(_cpu_s(ffmpeg, "-v", "error", "-i", str(clip), *limits)[0])
                spent_s, output = _cpu_s(
                    sys.executable, "-c", READ, str(clip), str(SECONDS), str(CLIP_SIZE), str(SYNC_SIZE)
                )
                found.append(spent_s)
                imports.append(float(output))
            base_s, with_imports_s, import_s = (statistics.median(times) for times in (base, found, imports))
            ours_s = with_imports_s - import_s
            print(f"{kind:<10}{base_s:>15.2f}{ours_s:>8.2f}{with_imports_s:>14.2f}{ours_s / base_s:>8.2f}", flush=True)


def draw_moving_picture(path: Path, width: int, height: int, rate: int, *, codec: str = "libx264") -> None:
    """Render a panning soft texture with fine grain and a moving rectangle, at a moderate bit rate."""
    random = np.random.default_rng(0)
    coarse = Image.fromarray(random.integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8))
    soft = np.asarray(coarse.resize((2 * width, height), Image.Resampling.BICUBIC)).astype(np.int16) // 2 + 60
    texture = np.clip(soft + random.integers(-6, 7, (height, 2 * width, 1)), 0, 255).astype(np.uint8)
    with av.open(str(path), "w") as out:
        stream: Any = out.add_stream(
            codec, rate=rate, options={"preset": "ultrafast" if codec == "libx265" else "veryfast"}
        )
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.bit_rate = width * height * rate // 10
        stream.codec_context.gop_size = 2 * rate
        for number in range((SECONDS + 1) * rate):
            left = number * 120 // rate % width
            picture = texture[:, left : left + width].copy()
            x, y = number * 7 * width // 1920 % (width * 7 // 8), int(height * (0.4 + 0.3 * np.sin(number / 20)))
            picture[y : y + height // 8, x : x + width // 8] = (220, 60, 40)
            out.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        out.mux(stream.encode(None))


def _cpu_s(*command: str) -> tuple[float, str]:
    """Run a program to its end; return its CPU seconds and what it printed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


if __name__ == "__main__":
    main()
