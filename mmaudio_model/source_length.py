"""Warnings about the length of a video, as it was asked for and as it is."""

from __future__ import annotations

from mmaudio_model.media.media_warning import MediaWarning, WarningCode

TOLERANCE_S = 0.05
"""A video that is shorter or longer by less than this, about one frame, gets no warning."""


def length_warnings(
    duration_s: float, requested_s: float | None, *, start_s: float, longest_s: float, source_s: float | None
) -> tuple[MediaWarning, ...]:
    """Return what a user should know about how much of a video the sound covers.

    Args:
        duration_s: of the sound.
        requested_s: None: to the end of the video.
        longest_s: the longest sound that the variant makes.
        source_s: of the whole video; None: it is not known.
    """
    if requested_s is not None:
        if duration_s >= requested_s - TOLERANCE_S:
            return ()
        text = f"The video has {duration_s:.2f} s of the requested {requested_s:g} s; the sound is as long."
        return (MediaWarning(WarningCode.VIDEO_SHORTER, text),)
    if source_s is None or duration_s < longest_s - TOLERANCE_S or source_s - start_s <= duration_s + TOLERANCE_S:
        return ()
    part = f"Only the first {duration_s:g} s" if not start_s else f"Only {duration_s:g} s, from {start_s:g} s on,"
    text = f"{part} of the video's {source_s:.2f} s are used."
    return (MediaWarning(WarningCode.VIDEO_LONGER, text),)
