"""Muxes a video with its new sound: video packets are copied, sound is encoded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import av
import numpy as np
from av.container import OutputContainer

from mmaudio_model.media.audio import Sound
from mmaudio_model.media.mixing import mix_original
from mmaudio_model.media.mux.copying import WEBM_CODECS, Section, copy_section, section_to_copy
from mmaudio_model.media.mux.encoding import reencode_section
from mmaudio_model.media.probe import MediaLimits, opened


@dataclass(frozen=True)
class MuxResult:
    """The written file: format (`mp4` or `webm`), MIME type, and warnings for the user."""

    format: str
    content_type: str
    reencoded: bool
    warnings: tuple[str, ...] = ()


def mux_video(
    source: BinaryIO,
    waveform: np.ndarray,
    sample_rate_hz: int,
    out_path: Path,
    *,
    start_s: float,
    duration_s: float,
    original_gain_db: float | None = None,
    limits: MediaLimits,
) -> MuxResult:
    """Write a section of `source` with the waveform, float32 (samples,), as its sound.

    The video is copied packet by packet if the section starts on a key frame and players accept the codec; otherwise it
    is re-encoded, with a warning. A copy ends on a packet, so the picture may be longer than the sound by the frames
    that others depend on.

    Args:
        original_gain_db: mix in the video's original sound at this gain; None drops it.

    Raises:
        MediaInvalidError, MediaTooLargeError: see `frames.read_video_frames`.
    """
    warnings: list[str] = []
    sound = Sound.mono(waveform, sample_rate_hz)
    if original_gain_db is not None:
        sound = mix_original(source, waveform, sample_rate_hz, start_s, original_gain_db, limits, warnings)
        source.seek(0)
    with opened(source, limits) as (container, stream):
        webm = stream.codec_context.name in WEBM_CODECS
        section = section_to_copy(container, stream, start_s, duration_s)
        if isinstance(section, Section):
            with _output(out_path, webm=webm) as out:
                copy_section(section, stream, out, sound, "opus" if webm else "m4a")
            return MuxResult(
                format="webm" if webm else "mp4",
                content_type="video/webm" if webm else "video/mp4",
                reencoded=False,
                warnings=tuple(warnings),
            )
    source.seek(0)
    with opened(source, limits) as (container, stream), _output(out_path, webm=False) as out:
        reencode_section(container, stream, out, start_s, duration_s, sound, limits)
    warnings.append(f"The video was re-encoded: {section}.")
    return MuxResult(format="mp4", content_type="video/mp4", reencoded=True, warnings=tuple(warnings))


def _output(path: Path, *, webm: bool) -> OutputContainer:
    if webm:
        return av.open(str(path), "w", format="webm")
    # faststart: the index comes first, so that browsers can play while loading
    return av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
