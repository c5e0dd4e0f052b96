"""What will happen to a video when it gets its new sound: decided before the sound is made, and then kept to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, BinaryIO, Literal

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.frames import timed_frames
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.copying import Section, section_to_copy
from mmaudio_model.media.mux.encoder_choice import EncoderSettings
from mmaudio_model.media.mux.result_container import (
    CONTAINERS,
    ResultContainer,
    codec_name,
    container_for_copy,
    container_for_encoding,
)
from mmaudio_model.media.probe import MediaLimits, frame_rate, opened
from mmaudio_model.media.source_container import source_container


@dataclass(frozen=True)
class MuxOptions:
    """What is asked for: the section in seconds, the container, and whether other tracks are kept."""

    start_s: float
    duration_s: float
    container: Literal["auto", "mp4", "mov", "mkv", "webm"] = "auto"
    keep_tracks: bool = True
    encoder: EncoderSettings = field(default_factory=EncoderSettings)


@dataclass(frozen=True)
class KeptTrack:
    """A track of the source that the result has too."""

    index: int
    """Index of the source's stream."""
    kind: str
    """`audio`, `subtitle`, `data`, `cover`, `attachment`."""
    codec: str
    """In the result: text may be written in another form."""
    name: str
    """For a person."""


@dataclass(frozen=True)
class MuxPlan:
    """What `mux_video` will do with a source and options."""

    container: ResultContainer
    content_type: str
    reencoded: bool
    reason: str
    """Why the video is encoded again; empty for a copy."""
    tracks: tuple[KeptTrack, ...] = ()
    lost: tuple[str, ...] = ()
    """Names of what the result will not have, with the reason."""
    timecode: str | None = None
    """Of the first frame of the section, HH:MM:SS:FF, or HH:MM:SS;FF for drop-frame."""
    frame_rate: str = ""
    """Average frames per second as a fraction, such as `30000/1001`."""
    warnings: tuple[MediaWarning, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> MuxPlan:
        """Return a plan from the values of `to_json`."""
        return MuxPlan(
            container=ResultContainer(values["container"]),
            content_type=values["content_type"],
            reencoded=values["reencoded"],
            reason=values["reason"],
            tracks=tuple(KeptTrack(**track) for track in values["tracks"]),
            lost=tuple(values["lost"]),
            timecode=values["timecode"],
            frame_rate=values["frame_rate"],
            warnings=tuple(
                MediaWarning(WarningCode(warning["code"]), warning["text"]) for warning in values["warnings"]
            ),
        )


def plan_mux(source: BinaryIO, options: MuxOptions, limits: MediaLimits) -> MuxPlan:
    """Return what will be done with a section of a video. It reads packets, and decodes at most one frame.

    Raises:
        MediaInvalidError, MediaTooLargeError: the section can be neither copied nor decoded; see `frames`.
    """
    with opened(source, limits) as (container, stream):
        kind, codec = source_container(container, source), codec_name(stream)
        target = container_for_copy(kind, codec, options.container)
        section: Section | str = f"players do not accept its codec ({codec}) in MP4 or WebM"
        if target is not None:
            section = section_to_copy(container, stream, options.start_s, options.duration_s, target)
        rate = frame_rate(stream)
    reason = section if isinstance(section, str) else ""
    if target is None or reason:
        target = container_for_encoding(kind, options.container)
        source.seek(0)
        _check_decodable(source, options, limits)
    warnings = [MediaWarning(WarningCode.VIDEO_REENCODED, f"The video was re-encoded: {reason}.")] if reason else []
    source.seek(0)
    return MuxPlan(
        container=target,
        content_type=CONTAINERS[target].content_type,
        reencoded=bool(reason),
        reason=reason,
        frame_rate=f"{rate.numerator}/{rate.denominator}",
        warnings=tuple(warnings),
    )


def _check_decodable(source: BinaryIO, options: MuxOptions, limits: MediaLimits) -> None:
    with opened(source, limits) as (container, stream):
        damaged: list[str] = []
        first = next(timed_frames(container, stream, options.start_s, limits, damaged), None)
    if first is None or first[0] >= options.duration_s:
        raise MediaInvalidError("The video is damaged: none of its frames in this section can be decoded.")
