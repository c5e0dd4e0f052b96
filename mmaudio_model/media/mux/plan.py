"""What will happen to a video when it gets its new sound: decided before the sound is made, and then kept to."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, BinaryIO

import av
import numpy as np
from av.error import FFmpegError
from av.stream import Disposition

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import Sound
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.alpha_decoding import is_declared_transparent
from mmaudio_model.media.mux.assembling import Assembled, assemble
from mmaudio_model.media.mux.copying import RESTARTED, RESTARTED_WITHIN, Section, section_to_copy
from mmaudio_model.media.mux.decisions import MuxOptions, MuxPlan
from mmaudio_model.media.mux.encoder_choice import choose_encoding
from mmaudio_model.media.mux.file_view import view_of
from mmaudio_model.media.mux.records import records_of
from mmaudio_model.media.mux.result_container import (
    CONTAINERS,
    QUICKTIME,
    ResultContainer,
    codec_name,
    container_for_copy,
    container_for_encoding,
    copied_tag,
)
from mmaudio_model.media.mux.tags import kept_tags, lost_tags, shortened, timecode_of
from mmaudio_model.media.mux.tracks import KeptTrack, plan_tracks
from mmaudio_model.media.probe import MediaLimits, frame_rate, opened, time_base
from mmaudio_model.media.section import exact_seconds, first_stamp, section_frames
from mmaudio_model.media.source_container import SourceContainer, source_container

__all__ = ["MuxOptions", "MuxPlan", "plan_mux"]

QUICKTIME_SOURCES = frozenset({SourceContainer.MP4, SourceContainer.MOV})
TRIAL_PACKETS = 60
TRIAL_RATE_HZ = 48_000
REFUSED = (FFmpegError, ValueError, OverflowError)
MAX_NAMED_TAGS = 12


@dataclass(frozen=True)
class _Tried:
    """Streams and tags of a result, as a reader finds them."""

    kinds: tuple[str, ...]
    languages: tuple[str, ...]
    assembled: Assembled
    tags: dict[str, str]


def plan_mux(source: BinaryIO, options: MuxOptions, limits: MediaLimits) -> MuxPlan:
    """Return what will be done with a section of a video, after a trial of the muxer in memory.

    It reads packets, and decodes at most one frame.

    Raises:
        MediaInvalidError, MediaTooLargeError: the section can be neither copied nor decoded; see `frames`.
    """
    plan, section = _copy_plan(source, options, limits)
    if not plan.reencoded:
        tried = _with_tracks(source, plan, section, options, limits)
        if isinstance(tried, MuxPlan):
            return tried
        reason = f"{plan.container.value.upper()} does not take its codec ({plan.codec})"
        plan = replace(plan, reencoded=True, reason=reason)
    plan = _encoding_plan(source, plan, options, limits)
    tried = _with_tracks(source, plan, None, options, limits)
    if isinstance(tried, MuxPlan):
        return tried
    raise MediaInvalidError(f"The video can be neither copied nor encoded again: {tried}.") from tried


def _copy_plan(source: BinaryIO, options: MuxOptions, limits: MediaLimits) -> tuple[MuxPlan, Section | None]:
    first = None
    with contextlib.suppress(FFmpegError), opened(view_of(source), limits) as (container, stream):
        first = first_stamp(container, stream, limits)
    view = view_of(source)
    with opened(view, limits) as (container, stream):
        kind, codec, rate = source_container(container, view), codec_name(stream), frame_rate(stream)
        target = container_for_copy(kind, codec, options.container)
        section: Section | str = f"players do not accept its codec ({codec}) in MP4 or WebM"
        if target is not None:
            section = section_to_copy(container, stream, first, options, target)
        elif options.container != "auto":
            section = f"{options.container.upper()} does not take its codec ({codec})"
        timecode = timecode_of(container, stream, rate)
        if timecode is not None:
            timecode = timecode.advanced(_frames_before(section, first, stream, options.start_s, rate))
        reencoded = isinstance(section, str)
        transparent = is_declared_transparent(stream)
        if reencoded or target is None:
            target = container_for_encoding(kind, options.container, transparent=transparent)
        records = records_of(view_of(source)) if kind in QUICKTIME_SOURCES else ()
        lost = [f"{name}: encoding does not keep it" for name in records] if reencoded else []
        if transparent and not reencoded and target in QUICKTIME:
            lost.append(f"transparency: {target.name} does not take it beside {codec}")
        plan = MuxPlan(
            container=target,
            content_type=CONTAINERS[target].content_type,
            reencoded=reencoded,
            reason=section if isinstance(section, str) else "",
            codec=codec,
            lost=tuple(lost),
            first_stamp=first,
            tag=copied_tag(stream, kind, target),
            timecode=None if timecode is None else str(timecode),
            frame_rate=f"{rate.numerator}/{rate.denominator}",
            as_mp4=not reencoded and target is ResultContainer.MOV and bool(records),
            metadata=options.keep_tracks,
        )
    return plan, None if isinstance(section, str) else section


def _frames_before(section: Section | str, first: int | None, stream: Any, start_s: float, rate: Fraction) -> int:
    if isinstance(section, Section) and first is not None:
        return max(0, round((section.origin - first) * time_base(stream) * rate))
    return int(exact_seconds(start_s) * rate + Fraction(1, 100))


def _encoding_plan(source: BinaryIO, plan: MuxPlan, options: MuxOptions, limits: MediaLimits) -> MuxPlan:
    """Decode the first frame, and say what encoding changes."""
    with opened(view_of(source), limits) as (container, stream):
        damaged: list[str] = []
        first = next(section_frames(container, stream, options.start_s, options.duration_s, limits, damaged), None)
        if first is None:
            raise MediaInvalidError(_nothing_there(options, damaged=bool(damaged)))
        encoding = choose_encoding(stream, first.frame, plan.container.value, options.encoder)
    reencoded = MediaWarning(WarningCode.VIDEO_REENCODED, f"The video was re-encoded: {plan.reason}.")
    return replace(plan, tag=None, as_mp4=False, warnings=(reencoded, *encoding.warnings))


def _with_tracks(
    source: BinaryIO, plan: MuxPlan, section: Section | None, options: MuxOptions, limits: MediaLimits
) -> MuxPlan | Exception:
    """Return the plan with all tracks that the muxer takes, or why it does not take the video."""
    kept: list[KeptTrack] = []
    lost: list[str] = list(plan.lost)
    wanted: dict[str, str] = {}
    if options.keep_tracks:
        with opened(view_of(source), limits) as (container, stream):
            kept, dropped = plan_tracks(container, stream, plan.container)
            lost += dropped
            if plan.reason in {RESTARTED, RESTARTED_WITHIN}:
                lost += [f"{track.name}: {plan.reason}" for track in kept]
                kept = []
            wanted = dict(container.metadata)

    def with_only(attempt: MuxPlan, tracks: list[KeptTrack]) -> _Tried | Exception:
        return _tried(source, replace(attempt, tracks=tuple(tracks)), section, options, limits)

    tried: _Tried | Exception = ValueError("no trial was made")
    for attempt in _attempts(plan):
        tried = with_only(attempt, kept)
        if isinstance(tried, Exception) and kept:
            alone = with_only(attempt, [])
            if isinstance(alone, Exception):
                tried = alone
                continue
            fitting = [track for track in kept if isinstance(with_only(attempt, [track]), _Tried)]
            together = with_only(attempt, fitting)
            if isinstance(together, Exception):
                fitting, together = [], alone
            lost += [_refused(track, attempt) for track in kept if track not in fitting]
            kept, tried = fitting, together
        if isinstance(tried, _Tried):
            plan = attempt
            break
    else:
        return tried if isinstance(tried, Exception) else ValueError("the muxer refuses it")
    there = _there(kept, tried)
    lost += [_refused(track, plan) for track in kept if track not in there]
    lost += [*_lost_tags(wanted, tried), *_lost_languages(tried)]
    return replace(plan, tracks=tuple(there), lost=tuple(lost)).with_warnings()


def _attempts(plan: MuxPlan) -> Iterator[MuxPlan]:
    """Yield the plan with the source's tag, and with the muxer's own."""
    yield plan
    if plan.tag is not None:
        yield replace(plan, tag=None)


def _tried(
    source: BinaryIO, plan: MuxPlan, section: Section | None, options: MuxOptions, limits: MediaLimits
) -> _Tried | Exception:
    written = io.BytesIO()
    silence = Sound.mono(np.zeros(TRIAL_RATE_HZ // 10, np.float32), TRIAL_RATE_HZ)
    try:
        assembled = assemble(source, written, plan, options, silence, limits, section=section, trial=TRIAL_PACKETS)
        written.seek(0)
        with av.open(written) as container:
            kinds = tuple(
                "cover" if stream.disposition & Disposition.attached_pic else stream.type
                for stream in container.streams
            )
            languages = tuple(stream.metadata.get("language", "") for stream in container.streams)
            return _Tried(kinds, languages, assembled, dict(container.metadata))
    except REFUSED as exc:
        return exc


def _there(kept: list[KeptTrack], tried: _Tried) -> list[KeptTrack]:
    """Return the tracks of which a reader finds all of the kind; one more audio track is the new sound."""
    found = {kind: tried.kinds.count(kind) - (kind == "audio") for kind in set(tried.kinds)}
    asked = [track.kind for track in kept]
    return [track for track in kept if found.get(track.kind, 0) >= asked.count(track.kind)]


def _refused(track: KeptTrack, plan: MuxPlan) -> str:
    return f"{track.name}: {plan.container.value.upper()} does not take it"


def _lost_tags(wanted: dict[str, str], tried: _Tried) -> list[str]:
    kept = kept_tags(wanted)
    cut = shortened(kept, wanted)
    lost = lost_tags(tried.assembled.tags, tried.tags)
    sentences = []
    for names, what in ((lost, "do not fit in it"), (cut, "are too long")):
        if names:
            more = f" and {len(names) - MAX_NAMED_TAGS} more" if len(names) > MAX_NAMED_TAGS else ""
            sentences.append(f"tags that {what} ({', '.join(names[:MAX_NAMED_TAGS])}{more})")
    return sentences


def _lost_languages(tried: _Tried) -> list[str]:
    given = {language for language in tried.assembled.languages if language not in {"", "und"}}
    return [f"the name of the language {language}" for language in sorted(given.difference(tried.languages))]


def _nothing_there(options: MuxOptions, *, damaged: bool) -> str:
    if damaged:
        return "The video is damaged: none of its frames can be decoded."
    if options.start_s:
        return f"The video has no frame at {options.start_s:g} s or later; choose an earlier start."
    return "The video has no frames."
