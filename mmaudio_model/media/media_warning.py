"""What a user should know about a file that was read or written: a stable code, and a sentence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class WarningCode(StrEnum):
    """The codes; clients may depend on them."""

    VIDEO_DAMAGED = "video_damaged"
    """Parts of the picture could not be decoded and were skipped."""
    VIDEO_CUT_OFF = "video_cut_off"
    """The file ends before its header says that it does."""
    VIDEO_SHORTER = "video_shorter"
    """The video ends within the requested section."""
    VIDEO_LONGER = "video_longer"
    """The video goes on after the last second that the variant can make a sound for."""
    SEVERAL_VIDEOS = "several_videos"
    """The file holds several moving videos; the sentence says which one was taken."""
    VIDEO_REENCODED = "video_reencoded"
    """The picture was decoded and encoded again; the sentence says why."""
    PICTURE_CHANGED = "picture_changed"
    """Re-encoding could not keep a property of the picture."""
    TRACKS_DROPPED = "tracks_dropped"
    """The result's container cannot hold some tracks, chapters or tags of the source."""
    ORIGINAL_AUDIO_MISSING = "original_audio_missing"
    """The video has no sound to mix in, or none in this section."""
    ORIGINAL_AUDIO_DAMAGED = "original_audio_damaged"
    """The video's sound could not be decoded, or only in part."""
    SILENT = "silent"
    """The generated sound is silent."""
    NEAR_SILENT = "near_silent"
    """The generated sound is so quiet that hardly anything can be heard."""
    AUDIO_CLIPPED = "audio_clipped"
    """Samples beyond full scale were cut down to it."""
    AUDIO_LOWERED = "audio_lowered"
    """The sound was lowered, so that its peaks stay below full scale or below the true-peak ceiling."""
    AUDIO_RATE_LOWERED = "audio_rate_lowered"
    """The format cannot hold the sound's sample rate."""
    AUDIO_LAYOUT_CHANGED = "audio_layout_changed"
    """The sound has another channel layout than its source: downmixed, or with silent channels added."""
    LOUDNESS_LIMITED = "loudness_limited"
    """The true-peak ceiling keeps the sound below the requested loudness."""
    TIMECODE_INVALID = "timecode_invalid"
    """The source's timecode does not exist at its frame rate."""
    PICTURE_READ = "picture_read"
    """Something about a still picture or an animation that was read with a limitation."""


@dataclass(frozen=True)
class MediaWarning:
    """One warning."""

    code: WarningCode
    text: str


def skipped_parts(count: int) -> MediaWarning:
    """Return the warning of parts that could not be decoded; the same for whoever decodes the video."""
    text = f"{count} parts of the video are damaged and were skipped."
    if count == 1:
        text = "1 part of the video is damaged and was skipped."
    return MediaWarning(WarningCode.VIDEO_DAMAGED, text)
