"""What is asked of a mux, and what was decided about it. Both go through JSON, since a sandbox makes them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.encoder_choice import EncoderSettings
from mmaudio_model.media.mux.result_container import ResultContainer
from mmaudio_model.media.mux.tracks import KeptTrack


@dataclass(frozen=True)
class MuxOptions:
    """What is asked for: the section in seconds, the container, and whether other tracks are kept."""

    start_s: float
    duration_s: float
    container: Literal["auto", "mp4", "mov", "mkv", "webm"] = "auto"
    keep_tracks: bool = True
    encoder: EncoderSettings = field(default_factory=EncoderSettings)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> MuxOptions:
        """Return options from the values of `to_json`."""
        return MuxOptions(**{**values, "encoder": EncoderSettings(**values["encoder"])})


@dataclass(frozen=True)
class MuxPlan:
    """What `mux_video` will do with a source and options."""

    container: ResultContainer
    content_type: str
    reencoded: bool
    reason: str
    """Why the video is encoded again; empty for a copy."""
    codec: str
    """Of the source's video."""
    first_stamp: int | None
    """Time stamp of the first frame that the source shows, in units of its time base; None if none is decoded."""
    tag: str | None = None
    """The container's four letters for the copied video; None leaves them to the muxer."""
    tracks: tuple[KeptTrack, ...] = ()
    lost: tuple[str, ...] = ()
    """What the result will not have, with the reason."""
    timecode: str | None = None
    """Of the first frame of the section, HH:MM:SS:FF, or HH:MM:SS;FF for drop-frame."""
    frame_rate: str = ""
    """Average frames per second as a fraction, such as `30000/1001`."""
    as_mp4: bool = False
    """A MOV is written in the manner of MP4, which has records that FFmpeg does not write otherwise."""
    metadata: bool = True
    """Tags and chapters are kept."""
    warnings: tuple[MediaWarning, ...] = ()

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> MuxPlan:
        """Return a plan from the values of `to_json`."""
        rebuilt = {
            "container": ResultContainer(values["container"]),
            "tracks": tuple(KeptTrack(**track) for track in values["tracks"]),
            "lost": tuple(values["lost"]),
            "warnings": tuple(
                MediaWarning(WarningCode(warning["code"]), warning["text"]) for warning in values["warnings"]
            ),
        }
        return MuxPlan(**{**values, **rebuilt})

    def with_warnings(self) -> MuxPlan:
        """Return the plan with one warning that names all that is lost."""
        others = tuple(warning for warning in self.warnings if warning.code is not WarningCode.TRACKS_DROPPED)
        return replace(self, warnings=(*others, *dropped(self.container, self.lost)))


def dropped(container: ResultContainer, lost: tuple[str, ...]) -> tuple[MediaWarning, ...]:
    if not lost:
        return ()
    text = f"The result ({container.value.upper()}) does not have everything that the video has: {'; '.join(lost)}."
    return (MediaWarning(WarningCode.TRACKS_DROPPED, text),)
