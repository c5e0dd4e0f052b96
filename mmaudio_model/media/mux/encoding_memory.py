"""How many threads the encoding of a picture uses, and how much memory it takes.

The process that encodes has a limit on its memory. x264 and x265 would take as many threads as there are processors,
and hold dozens of whole pictures; here both are bounded by the size of the picture, and what still needs more memory
than there is is refused before anything is encoded.
"""

from __future__ import annotations

import os
import resource
from dataclasses import dataclass

from mmaudio_model.errors import MediaTooLargeError

LARGE, HUGE = 1920 * 1088, 4096 * 2304
"""Pixels above which fewer pictures, and above which almost none but the current one, are held."""
# Python, FFmpeg, numpy and the sound: address space beside what pictures take.
BASE_BYTES = 450 * 2**20
# Address space per pixel that decoding and encoding took at 3840x2160 and, above HUGE, at 7680x4320; with 8-bit
# samples, and a third more than measured. FFmpeg's own buffers of 10-bit samples are twice as large.
_BYTES_PER_PIXEL = {
    "libx264": (110, 50),
    "libx265": (150, 130),
    "libvpx-vp9": (150, 110),
    "prores_ks": (90, 60),
}
_DEEP = 1.4


@dataclass(frozen=True)
class EncoderLoad:
    """What bounds the memory of an encoder.

    Attributes:
        lookahead: frames held to look ahead; 0 also means that frames are not reordered.
    """

    threads: int
    lookahead: int

    @property
    def reorders(self) -> bool:
        return self.lookahead > 0


def encoder_load(width: int, height: int) -> EncoderLoad:
    """Return how many threads and frames the decoder and the encoder of a picture may hold."""
    pixels = width * height
    threads, lookahead = (8, 10) if pixels <= LARGE else (4, 6) if pixels <= HUGE else (2, 0)
    return EncoderLoad(max(1, min(threads, len(os.sched_getaffinity(0)))), lookahead)


def encoding_memory_bytes(width: int, height: int, codec: str, depth: int) -> int:
    """Return about how much address space a process needs that decodes and encodes such pictures."""
    usual, huge = _BYTES_PER_PIXEL[codec]
    per_pixel = huge if width * height > HUGE else usual
    return BASE_BYTES + round(width * height * per_pixel * (_DEEP if depth > 8 and codec != "libx265" else 1))


def require_memory(width: int, height: int, codec: str, depth: int) -> None:
    """Refuse a picture that this process has too little memory to encode.

    Raises:
        MediaTooLargeError: it needs more than the limit of this process.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    needed = encoding_memory_bytes(width, height, codec, depth)
    if limit != resource.RLIM_INFINITY and needed > limit:
        raise MediaTooLargeError(
            f"Encoding a picture of {width}x{height} pixels with {depth} bits again needs about "
            f"{needed / 2**30:.1f} GiB of memory; {limit / 2**30:.1f} GiB are allowed. Choose a section that starts "
            "on a key frame, which is copied, or a smaller video."
        )
