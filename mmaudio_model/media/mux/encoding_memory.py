"""How many threads the encoding of a picture uses, and how much memory it takes.

The process that encodes has a limit on its memory; x264 and x265 would take as many threads as there are processors,
and each holds whole pictures.
"""

from __future__ import annotations

import os

_LARGE, _HUGE = 1920 * 1088, 4096 * 2304


def encoder_threads(width: int, height: int) -> int:
    """Return how many threads an encoder may use."""
    pixels = width * height
    most = 8 if pixels <= _LARGE else 4 if pixels <= _HUGE else 2
    return max(1, min(most, len(os.sched_getaffinity(0))))


def lookahead_frames(width: int, height: int) -> int:
    """Return how many frames x264 and x265 may hold to look ahead."""
    pixels = width * height
    return 10 if pixels <= _LARGE else 6 if pixels <= _HUGE else 2
