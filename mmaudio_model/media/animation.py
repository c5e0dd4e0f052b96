"""Animated pictures that FFmpeg does not read, as a lossless video that it does: reading and muxing stay as they are.

FFmpeg opens GIF and APNG itself. Of an animated WebP it decodes nothing; Pillow does, each frame on those before it.
One pass of the animation is one video, however often it would be repeated.
"""

from __future__ import annotations

import contextlib
import tempfile
import warnings as python_warnings
from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import av
import numpy as np
from av.video.frame import VideoFrame
from PIL import Image

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.picture_file import DAMAGE, WHOLE_PIXELS, open_picture

if TYPE_CHECKING:  # `probe` imports this module
    from mmaudio_model.media.probe import MediaLimits

# Of all frames together: 19 s of HD at 25 frames a second, which take up to two minutes of computing.
MOST_PIXELS = 1_000_000_000
# What is held in memory; more is written to a file without a name, in the working folder of a confined process.
MEMORY_BYTES = 64 * 1024**2
TIME_BASE = Fraction(1, 1000)
# Browsers show frames for this long that declare (almost) no duration.
SHORTEST_MS, INSTEAD_MS = 10, 100
NOT_MOVING = "The file is a still picture (WebP), not a video; give it as `image`."


@contextlib.contextmanager
def as_video(file: BinaryIO, limits: MediaLimits) -> Iterator[BinaryIO]:
    """Yield `file` itself, or, of an animated WebP, a new file with the same frames and times: PNG in
    MOV, which keeps the duration of every frame, too.

    Args:
        file: positioned at its start, where it is left.

    Raises:
        MediaInvalidError: a WebP that does not move or is damaged.
        MediaTooLargeError: its frames are too large or too many.
    """
    head = file.read(12)
    file.seek(0)
    if head[:4] != b"RIFF" or head[8:] != b"WEBP":
        yield file
        return
    with tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES) as spooled:
        video = cast(BinaryIO, spooled)
        try:
            with python_warnings.catch_warnings():
                python_warnings.simplefilter("ignore")
                _convert(file, video, limits)
        except DAMAGE as exc:
            raise MediaInvalidError("The animated picture (WebP) is damaged or cut off.") from exc
        finally:
            file.seek(0)
        video.seek(0)
        yield video


def _convert(file: BinaryIO, video: BinaryIO, limits: MediaLimits) -> None:
    picture: Any = open_picture(file, limits)
    count, (width, height) = picture.n_frames, picture.size
    if count < 2:
        raise MediaInvalidError(NOT_MOVING)
    largest = min(limits.max_pixels, WHOLE_PIXELS)
    if width * height > largest:
        raise MediaTooLargeError(
            f"The animation has {width}x{height} pixels; at most {largest / 1e6:.1f} megapixels are allowed."
        )
    if count > limits.max_decoded_frames or count * width * height > MOST_PIXELS:
        raise MediaTooLargeError(
            f"The animation has {count} frames of {width}x{height} pixels; at most {limits.max_decoded_frames} frames "
            f"and {MOST_PIXELS / 1e6:.0f} megapixels in all are allowed."
        )
    mode = "RGBA" if picture.mode == "RGBA" else "RGB"
    with av.open(video, "w", format="mov") as out:
        stream: Any = out.add_stream("png", rate=1000, options={"compression_level": "1", "threads": "1"})
        stream.width, stream.height, stream.pix_fmt = width, height, {"RGBA": "rgba", "RGB": "rgb24"}[mode]
        stream.codec_context.time_base = TIME_BASE
        for time_ms, duration_ms, frame in _frames(picture, count):
            shown = VideoFrame.from_ndarray(np.asarray(frame.convert(mode)), format=stream.pix_fmt)
            shown.pts, shown.time_base = time_ms, TIME_BASE
            for packet in stream.encode(shown):  # at once: there is nothing to reorder
                packet.duration = duration_ms
                out.mux(packet)
        out.mux(stream.encode(None))


def _frames(picture: Any, count: int) -> Iterator[tuple[int, int, Image.Image]]:
    """Yield time and duration in milliseconds, and the picture that is shown then."""
    time_ms = 0
    for index in range(count):
        picture.seek(index)
        picture.load()
        duration_ms = int(picture.info.get("duration", 0))
        duration_ms = duration_ms if duration_ms > SHORTEST_MS else INSTEAD_MS
        yield time_ms, duration_ms, picture.copy()
        time_ms += duration_ms
