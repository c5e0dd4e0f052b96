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
# x265 holds far more of each picture than the other encoders.
_HUGE_FOR = {"libx265": 2560 * 1440}
# Python, FFmpeg, numpy and the sound: address space beside what pictures take.
BASE_BYTES = 400 * 2**20
# Address space per pixel that decoding and encoding take with 8-bit samples (x265: 10-bit), below and above these
# sizes; measured at 3840x2160 (x265: 2560x1440, 3840x2160) and 7680x4320 on two processors.
_BYTES_PER_PIXEL = {
    "libx264": (150, 70),
    "libx265": (270, 190),
    "libvpx-vp9": (190, 110),
    "prores_ks": (110, 80),
}
_DEEP = 1.4


@dataclass(frozen=True)
class EncoderLoad:
    """What bounds the memory of an encoder.

    Attributes:
        threads: of the encoder, and `decoder_threads` of the decoder; each of them holds a picture.
        lookahead: frames held to look ahead; 0 also means that frames are not reordered.
    """

    threads: int
    decoder_threads: int
    lookahead: int

    @property
    def reorders(self) -> bool:
        return self.lookahead > 0


def encoder_load(width: int, height: int, codec: str = "libx264") -> EncoderLoad:
    """Return how many threads and frames the decoder and the encoder of a picture may hold."""
    pixels = width * height
    threads, decoder_threads, lookahead = (8, 8, 10) if pixels <= LARGE else (4, 4, 6) if pixels <= HUGE else (2, 1, 0)
    if _is_huge(pixels, codec):
        threads, lookahead = 2, 0
    processors = len(os.sched_getaffinity(0))
    return EncoderLoad(min(threads, processors), min(decoder_threads, processors), lookahead)


def encoding_memory_bytes(width: int, height: int, codec: str, depth: int) -> int:
    """Return about how much address space a process needs that decodes and encodes such pictures."""
    pixels = width * height
    per_pixel = _BYTES_PER_PIXEL[codec][_is_huge(pixels, codec)]
    return BASE_BYTES + round(pixels * per_pixel * (_DEEP if depth > 8 and codec == "libx264" else 1))


def _is_huge(pixels: int, codec: str) -> bool:
    return pixels > _HUGE_FOR.get(codec, HUGE)


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
