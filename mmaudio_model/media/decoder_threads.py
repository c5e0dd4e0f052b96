"""How many threads a decoder may use: more of them need more memory, which is limited where files are read."""

from __future__ import annotations

import os
from typing import Any

# More threads save little time in the reading of one clip, and cost memory even when they wait.
MOST_THREADS = 4
# What the threads' frames may take together; each thread holds about two.
FRAMES_BYTES = 400 * 1024**2


def limit_threads(context: Any) -> None:
    """Choose the number of threads of a decoder that is not open yet."""
    pixel_bytes = 1.5 if context.pix_fmt in ("yuv420p", "yuvj420p", "nv12") else 4
    of_one = max(1, context.width * context.height * pixel_bytes * 2)
    context.thread_type = "AUTO"
    context.thread_count = max(1, min(len(os.sched_getaffinity(0)), MOST_THREADS, int(FRAMES_BYTES / of_one)))
