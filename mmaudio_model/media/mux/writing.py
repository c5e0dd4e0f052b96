"""Muxes a video with its new sound: what the plan says is done."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import Sound
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.assembling import Assembled, assemble
from mmaudio_model.media.mux.decisions import MuxOptions, MuxPlan
from mmaudio_model.media.mux.end_of_tracks import end_tracks
from mmaudio_model.media.mux.plan import REFUSED, plan_mux
from mmaudio_model.media.mux.result_container import CONTAINERS
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.section import exact_seconds


@dataclass(frozen=True)
class MuxResult:
    """The written file: format (`mp4`, `mov`, `mkv` or `webm`), MIME type, and warnings for the user."""

    format: str
    content_type: str
    reencoded: bool
    warnings: tuple[MediaWarning, ...] = ()


def mux_video(
    source: BinaryIO,
    sound: Sound,
    out_path: Path,
    *,
    options: MuxOptions,
    plan: MuxPlan | None = None,
    limits: MediaLimits,
) -> MuxResult:
    """Write a section of `source` with a new sound.

    The video is copied packet by packet if the section starts on a key frame and the container takes the codec;
    otherwise it is re-encoded, with a warning. A copy ends with the section to within a frame.

    Args:
        plan: of `plan_mux` for this source and these options; None makes one.

    Raises:
        MediaInvalidError, MediaTooLargeError: see `frames.read_video_frames`.
    """
    if plan is None:
        plan = plan_mux(source, options, limits)
    for attempt in _attempts(plan):
        try:
            assembled = assemble(source, out_path, attempt, options, sound, limits)
            break
        except REFUSED as exc:
            refusal = exc
    else:
        raise MediaInvalidError(f"The video with its new sound cannot be written: {refusal}.") from refusal
    if CONTAINERS[attempt.container].hides:
        end_tracks(out_path, exact_seconds(options.duration_s))
    return MuxResult(
        attempt.container.value, attempt.content_type, attempt.reencoded, tuple(_warnings(attempt, assembled))
    )


def _attempts(plan: MuxPlan) -> Iterator[MuxPlan]:
    """Yield the plan, and what is left of it if the muxer refuses a packet that the plan's trial did not come to."""
    yield plan
    if plan.tracks:
        lost = (
            *plan.lost,
            *(f"{track.name}: it is damaged, or {plan.container.upper()} does not take it" for track in plan.tracks),
        )
        yield replace(plan, tracks=(), lost=lost).with_warnings()
    if not plan.reencoded:
        reason = "its packets cannot be copied"
        warning = MediaWarning(WarningCode.VIDEO_REENCODED, f"The video was re-encoded: {reason}.")
        yield replace(
            plan, reencoded=True, reason=reason, tag=None, as_mp4=False, tracks=(), warnings=(warning, *plan.warnings)
        )


def _warnings(plan: MuxPlan, assembled: Assembled) -> Iterator[MediaWarning]:
    """Yield the plan's warnings, with what the encoder knows at its end in place of what was foreseen."""
    changes = [warning.code for warning in assembled.warnings]
    yield from (warning for warning in plan.warnings if warning.code not in changes)
    yield from assembled.warnings
