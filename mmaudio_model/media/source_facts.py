"""What a video declares about itself, and whether its file is complete; nothing is decoded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import BinaryIO

from mmaudio_model.media.cut_off import cut_off
from mmaudio_model.media.media_warning import MediaWarning
from mmaudio_model.media.probe import MediaLimits, container_duration_s, frame_rate, opened
from mmaudio_model.media.stream_choice import stream_warnings


@dataclass(frozen=True)
class SourceFacts:
    """Facts of the headers; they may be wrong.

    Attributes:
        pixels: of one frame.
        frame_rate: frames per second.
        duration_s: None: not declared.
        warnings: the file is cut off, or has several videos.
    """

    pixels: int
    frame_rate: float
    duration_s: float | None
    warnings: tuple[MediaWarning, ...] = ()


def read_source_facts(file: BinaryIO, *, section_end_s: float, limits: MediaLimits) -> SourceFacts:
    """Return the facts of a video.

    Args:
        section_end_s: end of the section that is wanted, in seconds after the first frame.

    Raises:
        MediaInvalidError, MediaTooLargeError: see `probe.opened`.
    """
    with opened(file, limits) as (container, stream):
        warning = cut_off(file, container, stream, section_end_s=section_end_s)
        return SourceFacts(
            pixels=stream.codec_context.width * stream.codec_context.height,
            frame_rate=float(frame_rate(stream)),
            duration_s=container_duration_s(container, stream),
            warnings=(*((warning,) if warning is not None else ()), *stream_warnings(container, stream)),
        )
