"""Puts picture, new sound and other tracks of a section into an output, in the order of their times."""

from __future__ import annotations

import contextlib
import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import dropwhile, islice
from pathlib import Path
from typing import Any, BinaryIO

import av
from av.container import OutputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import Sound
from mmaudio_model.media.media_warning import MediaWarning
from mmaudio_model.media.mux.copying import Section, packets_from, same_packet, section_to_copy, start_stamp
from mmaudio_model.media.mux.decisions import MuxOptions, MuxPlan
from mmaudio_model.media.mux.encoding import Reencoding
from mmaudio_model.media.mux.file_view import view_of
from mmaudio_model.media.mux.picture_facts import sample_aspect
from mmaudio_model.media.mux.result_container import CONTAINERS, QUICKTIME, ResultContainer, sound_format
from mmaudio_model.media.mux.sound_track import add_sound, encoded_sound
from mmaudio_model.media.mux.tags import chapters_of_section, kept_tags, track_tags
from mmaudio_model.media.mux.tracks import add_tracks, track_packets
from mmaudio_model.media.probe import MediaLimits, frame_rate, opened, time_base
from mmaudio_model.media.section import exact_seconds

# FFmpeg writes Dolby Vision and spherical video into MP4 only on this word. With it, it chooses no tags by itself for
# editing codecs.
_UNOFFICIAL_CODECS = frozenset({"h264", "hevc", "av1", "vp9"})


@dataclass(frozen=True)
class Assembled:
    """What came of it: warnings of the encoders, and the tags and the languages that were given to the file."""

    warnings: tuple[MediaWarning, ...]
    tags: dict[str, str]
    languages: tuple[str, ...]


def assemble(
    source: BinaryIO,
    target: Path | BinaryIO,
    plan: MuxPlan,
    options: MuxOptions,
    sound: Sound,
    limits: MediaLimits,
    *,
    section: Section | None = None,
    trial: int | None = None,
) -> Assembled:
    """Write a section as a plan says.

    Args:
        section: of `section_to_copy` for the plan, if it is known already.
        trial: write so many packets of a copy, or the header of what is encoded, to see that the muxer takes it.

    Raises:
        MediaInvalidError, MediaTooLargeError: see `frames.read_video_frames`.
        FFmpegError, ValueError: the muxer refuses a track.
    """
    duration_s = exact_seconds(options.duration_s)
    with contextlib.ExitStack() as stack:
        container, stream = stack.enter_context(opened(view_of(source), limits))
        beside, beside_video = container, stream
        if plan.tracks:
            beside, beside_video = stack.enter_context(opened(view_of(source), limits))
        out = stack.enter_context(open_output(target, plan, container))
        work: Reencoding | None = None
        base = time_base(stream)
        if plan.reencoded:
            work = Reencoding(
                container,
                stream,
                out,
                target=plan.container.value,
                start_s=options.start_s,
                duration_s=options.duration_s,
                settings=options.encoder,
                limits=limits,
            )
            written: Any = work.stream
            video = work.packets() if trial is None else iter(())
            start_s = (plan.first_stamp or 0) * base + exact_seconds(options.start_s)
        else:
            section = section or _section(view_of(source), plan, options, limits)
            written = _copied_stream(out, stream, plan)
            start = start_stamp(stream, plan.first_stamp, options.start_s)
            video = _copied(section, packets_from(container, stream, start) or iter(()), written)
            start_s = section.origin * base
        audio_format = sound_format(plan.container, plan.codec, reencoded=plan.reencoded)
        sound_stream, fitted = add_sound(out, audio_format, sound)
        added = add_tracks(out, beside, plan.tracks, plan.container)
        written.disposition = Disposition.default | stream.disposition
        written.metadata.update(track_tags(stream.metadata, plan.container) if plan.metadata else {})
        if plan.timecode is not None:
            written.metadata["timecode"] = plan.timecode
        tags: dict[str, str] = {}
        if plan.metadata:
            tags = kept_tags(beside.metadata)
            out.metadata.update(tags)
            out.set_chapters(chapters_of_section(beside.chapters(), start_s, duration_s))
        early = CONTAINERS[plan.container].hides
        tracks = track_packets(beside, beside_video, added, start_s, duration_s, early=early)
        out.start_encoding()
        packets: Iterator[Packet[Any]] = heapq.merge(
            video, encoded_sound(sound_stream, fitted.sound), tracks, key=_time
        )
        for packet in packets if trial is None else islice(packets, trial):
            out.mux(packet)
        warnings = work.warnings if work is not None else ()
        # A trial writes no packet of an encoded video, and MP4 then has no track of it.
        there = [given for given in out.streams if work is None or trial is None or given is not written]
        languages = tuple(given.metadata.get("language", "") for given in there)
        return Assembled((*warnings, *fitted.warnings), tags, languages)


def open_output(target: Path | BinaryIO, plan: MuxPlan, source: Any) -> OutputContainer:
    # The same input makes the same bytes: no random identifiers.
    # Packets come in the order of their times, so the muxer need not wait long for tracks that have few.
    options = {"fflags": "+bitexact", "max_interleave_delta": "1000000"}
    if plan.container in QUICKTIME:
        flags = "+faststart" if isinstance(target, Path) else ""  # the index first, so that browsers play while loading
        if plan.metadata and any(key.startswith("com.") for key in source.metadata):
            flags += "+use_metadata_tags"  # Apple's and Android's own names of tags
        options |= {"movflags": flags} if flags else {}
    # A tag that is given stays as it is only on the same word.
    if plan.codec in _UNOFFICIAL_CODECS or plan.tag is not None:
        options["strict"] = "unofficial"
    muxer = CONTAINERS[plan.container].muxer
    if plan.as_mp4:
        muxer, options["brand"] = CONTAINERS[ResultContainer.MP4].muxer, "qt  "
    file: Any = str(target) if isinstance(target, Path) else target
    return av.open(file, "w", format=muxer, container_options=options)


def _section(source: BinaryIO, plan: MuxPlan, options: MuxOptions, limits: MediaLimits) -> Section:
    with opened(source, limits) as (container, stream):
        section = section_to_copy(container, stream, plan.first_stamp, options, plan.container)
    if isinstance(section, str):
        raise MediaInvalidError(f"The video cannot be copied as planned: {section}.")
    return section


def _copied_stream(out: OutputContainer, stream: VideoStream, plan: MuxPlan) -> VideoStream:
    # `opaque` permits a template whose decoder has no encoder of the same name (libdav1d).
    copied = out.add_stream_from_template(stream, opaque=True)
    context: Any = copied.codec_context
    aspect = sample_aspect(stream)
    if aspect:
        context.sample_aspect_ratio = aspect
    if stream.average_rate:
        context.framerate = frame_rate(stream)
    if plan.tag is not None:
        context.codec_tag = plan.tag
    return copied


def _copied(section: Section, packets: Iterator[Packet[VideoStream]], copied: VideoStream) -> Iterator[Packet[Any]]:
    from_first = dropwhile(lambda packet: not same_packet(packet, section.first), packets)
    for packet, times in zip(from_first, section.times, strict=False):
        if times is None:
            continue
        packet.pts, packet.dts, packet.duration = times.pts, times.dts, times.duration
        packet.stream = copied
        yield packet


def _time(packet: Packet[Any]) -> Fraction:
    return (packet.dts or 0) * packet.time_base
