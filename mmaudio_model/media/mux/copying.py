"""Which packets of a video make up a section, and their times in the result, without decoding any.

All times are whole numbers in units of the stream's time base; a section's start and end are exact fractions of it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmaudio_model.media.continuity import Continuity, frame_ticks, is_scanned, keyframe_places
from mmaudio_model.media.mux.decisions import MuxOptions
from mmaudio_model.media.mux.h264 import starts_anew
from mmaudio_model.media.mux.result_container import CONTAINERS, ResultContainer, codec_name
from mmaudio_model.media.probe import frame_rate, seek_keyframe, time_base
from mmaudio_model.media.section import exact_seconds

# A key frame at most this long before the start, and not half a frame, is the start.
EARLY_S = Fraction(1, 50)
# No codec holds back more frames; after as many that are shown after the end, none of the section follows.
MAX_REORDERED = 17
# Their frames are decoded in the order in which they are shown, and some of them may not be shown at all.
UNORDERED_CODECS = frozenset({"vp8", "vp9", "av1", "mjpeg", "prores", "dnxhd", "dvvideo", "ffv1", "rawvideo", "png"})
OUT_OF_ORDER = "its time stamps are out of order"
RESTARTED = "its time stamps restart before the section"
RESTARTED_WITHIN = "its time stamps restart within the section"


@dataclass(frozen=True, slots=True)
class PacketFacts:
    """What a packet says of itself, in units of its stream's time base."""

    pts: int
    dts: int | None
    duration: int
    is_keyframe: bool = False
    is_hidden: bool = False
    """An edit list hides the frame."""
    is_disposable: bool = False
    """No other frame needs this one."""
    starts_anew: bool = True
    """What follows needs nothing from before; of key frames only."""


@dataclass(frozen=True, slots=True)
class PacketTimes:
    """Times of a packet in the result, from the section's start."""

    pts: int
    dts: int
    duration: int


@dataclass(frozen=True)
class Section:
    """Packets to copy, in decoding order from a key frame."""

    first: PacketFacts
    times: tuple[PacketTimes | None, ...]
    """Of each packet from the first one; None for one that is left out."""
    origin: int
    """Time stamp of the first frame shown, in units of the stream's time base."""


def section_to_copy(
    container: Any, stream: VideoStream, first_stamp: int | None, options: MuxOptions, target: ResultContainer
) -> Section | str:
    """Return the packets of the section, or the reason why they cannot be copied.

    Args:
        container: freshly opened.
        first_stamp: time stamp of the first frame that the video shows; None if none can be decoded.
    """
    base, rate = time_base(stream), frame_rate(stream)
    span = exact_seconds(options.duration_s) / base
    ordered = codec_name(stream) in UNORDERED_CODECS or not stream.codec_context.has_b_frames
    in_order = container.format.name == "avi"
    if in_order and not ordered:
        return "AVI files have no presentation times"
    if options.start_s > 0 and first_stamp is None:
        return "none of its first frames can be decoded"
    start = start_stamp(stream, first_stamp, options.start_s)
    packets = packets_from(container, stream, start)
    if packets is None:
        return RESTARTED
    clock = Continuity.of(container, stream)
    taken = _taken(packets, start, 1 / (4 * rate * base), span, clock, ordered=ordered, in_order=in_order)
    if isinstance(taken, str):
        return taken
    if start is not None and not start - taken[0].pts <= min(EARLY_S, 1 / (2 * rate)) / base:
        return "the section does not start on a key frame"
    if start is not None and not taken[0].starts_anew:
        return "the section starts on a key frame after which earlier pictures are needed"  # players refuse that
    if container.format.name == "mxf" and not ordered and all(a.pts < b.pts for a, b in pairwise(taken)):
        return "its frames are reordered, and the file does not say how"
    frame, first = frame_ticks(stream), taken[0]
    if container.format.name.startswith("matroska"):
        # The file has no decoding times, and those that FFmpeg makes up after a seek may be wrong.
        taken = [replace(packet, dts=None) for packet in taken]
    section = placed(taken, span, frame, ordered=ordered, target=target)
    return section if isinstance(section, str) else replace(section, first=first)


def start_stamp(stream: VideoStream, first_stamp: int | None, start_s: float) -> Fraction | None:
    """Return the time stamp of a section's start; None for the file's beginning."""
    return None if start_s == 0 else (first_stamp or 0) + exact_seconds(start_s) / time_base(stream)


def packets_from(container: Any, stream: VideoStream, start: Fraction | None) -> Iterator[Packet[VideoStream]] | None:
    """Return the packets that have content, from a key frame before the start on, until the file's end or damage.

    None if time stamps restart before the section, so that they do not tell where it is.
    """
    if start is not None:
        # A little later, so that a key frame exactly at the start is found.
        until = start + EARLY_S / time_base(stream)
        if is_scanned(container):
            places = keyframe_places(container, stream, until)
            if any(place.shift for place in places):
                return None
            container.seek(places[-1].position if places else 0, unsupported_byte_offset=True)
        else:
            with contextlib.suppress(FFmpegError):  # a file that cannot be sought is read from its beginning
                seek_keyframe(container, stream, float(until * time_base(stream)))
    return _readable(container, stream)


def _readable(container: Any, stream: VideoStream) -> Iterator[Packet[VideoStream]]:
    try:
        yield from (packet for packet in container.demux(stream) if packet.size)
    except FFmpegError:
        return  # the end is damaged: keep the packets before it


def same_packet(packet: Packet[VideoStream], facts: PacketFacts) -> bool:
    """Return whether a section begins with this packet."""
    return bool(packet.is_keyframe) and facts.pts in {packet.pts, packet.dts} and facts.dts == packet.dts


def _starts_anew(packet: Packet[VideoStream]) -> bool:
    stream = packet.stream
    return codec_name(stream) != "h264" or starts_anew(bytes(packet), stream.codec_context.extradata)


def _taken(
    packets: Iterable[Packet[VideoStream]],
    start: Fraction | None,
    late: Fraction,
    span: Fraction,
    clock: Continuity,
    *,
    ordered: bool,
    in_order: bool,
) -> list[PacketFacts] | str:
    """Read from the last key frame at the start or before it, until all frames of the section are read.

    Args:
        in_order: the file has decoding times only; what FFmpeg makes of them for presentation is wrong after a seek.
    """
    taken: list[PacketFacts] = []
    end: Fraction | None = None
    beyond = 0
    for packet in packets:
        pts = packet.dts if in_order or (packet.pts is None and ordered) else packet.pts
        if packet.is_keyframe and (not taken or (start is not None and pts is not None and pts <= start + late)):
            taken, end, beyond = [], None, 0
        elif not taken:
            continue
        if pts is None:
            return "its frames have no time stamps"
        if clock.jumps(packet.dts, taken[-1].dts if taken else None):
            return RESTARTED_WITHIN
        if start is not None and not taken and pts > start + late:
            return "the section does not start on a key frame"
        taken.append(
            PacketFacts(
                pts,
                packet.dts,
                packet.duration or 0,
                packet.is_keyframe,
                packet.is_discard,
                packet.is_disposable,
                starts_anew=not packet.is_keyframe or _starts_anew(packet),
            )
        )
        if end is None and not packet.is_discard:
            end = pts + span
        if end is None:
            continue
        beyond = beyond + 1 if pts >= end else 0
        # No packet is shown before it is decoded.
        if beyond > (0 if ordered else MAX_REORDERED) or (beyond and packet.dts is not None and packet.dts >= end):
            break
    return taken or "it has no key frame"


def placed(
    packets: Sequence[PacketFacts], span: Fraction, frame: int, *, ordered: bool, target: ResultContainer
) -> Section | str:
    """Place the packets of a section in the result.

    Args:
        packets: in decoding order, the first one a key frame; some may be shown after the section's end.
        span: length of the section.
        frame: length of a frame that declares none.
        ordered: the frames are shown in decoding order.
    """
    facts = CONTAINERS[target]
    first = packets[0].pts
    # Packets hidden by an edit list come first, since the shown ones need them.
    origin = min((packet.pts for packet in packets if not packet.is_hidden and packet.pts >= first), default=first)
    end = origin + span
    if any(packet.is_hidden and origin <= packet.pts < end for packet in packets):
        return "its edit list skips parts of the video"
    if not facts.hides and any(packet.is_hidden and packet.pts < origin for packet in packets):
        return f"its edit list hides frames at the beginning, which cannot be done in {target.value.upper()}"
    # Frames shown earlier may need packets that come later in decoding order: cut after the last one shown.
    last = max(index for index, packet in enumerate(packets) if packet.pts < end)
    kept = packets[: last + 1]
    stamps = [packet.pts - origin for packet in kept]
    if ordered:
        rising = _rising(stamps, frame, equal=not facts.increasing)
        if rising is None:
            return OUT_OF_ORDER
        stamps = decoding = rising
    else:
        times = _decoding_times(kept, stamps, origin, frame)
        if times is None:
            return OUT_OF_ORDER
        decoding = times
    ends = [
        PacketTimes(pts, dts, packet.duration or frame) for packet, pts, dts in zip(kept, stamps, decoding, strict=True)
    ]
    if facts.hides:
        return Section(packets[0], tuple(ends), origin)
    return Section(packets[0], tuple(_without_hidden(kept, ends, span)), origin)


def _rising(stamps: Sequence[int], frame: int, *, equal: bool) -> list[int] | None:
    """Put times that are almost in order in order; frames that are not shown have the time of a neighbour."""
    rising = list(stamps[:1])
    for stamp in stamps[1:]:
        least = rising[-1] + (0 if equal else 1)
        if least - stamp > frame:
            return None
        rising.append(max(stamp, least))
    return rising


def _decoding_times(packets: Sequence[PacketFacts], stamps: Sequence[int], origin: int, frame: int) -> list[int] | None:
    """Return decoding times that increase and are never after the presentation; None if the file's are wrong.

    Matroska stores none, and FFmpeg cannot derive the first ones if frames are reordered.
    """
    if len(set(stamps)) < len(stamps):
        return None
    known = [packet.dts - origin for packet in packets if packet.dts is not None]
    if any(after < before for before, after in pairwise(known)):
        return None
    in_time = all(dts <= pts for dts, pts in zip(known, stamps, strict=False))
    if len(known) == len(packets) and in_time and all(before < after for before, after in pairwise(known)):
        return known
    shown = sorted(stamps)
    places = {stamp: place for place, stamp in enumerate(shown)}
    depth = max(index - places[stamp] for index, stamp in enumerate(stamps))
    if depth > MAX_REORDERED:
        return None
    early = [shown[0] - (depth - index) * frame for index in range(depth)]
    return [*early, *shown][: len(stamps)]


def _without_hidden(
    packets: Sequence[PacketFacts], times: Sequence[PacketTimes], span: Fraction
) -> Iterator[PacketTimes | None]:
    """Place packets where no frame can be hidden.

    Frames before the first one are left out. Of those after the end, only such are kept that shown frames need; they
    are shown together at the end, for the shortest time that the time base knows.
    """
    final = math.ceil(span)
    late = sorted(
        place.pts
        for packet, place in zip(packets, times, strict=True)
        if place.pts >= span and not packet.is_disposable
    )
    latest = max(place.pts for place in times if place.pts < span)
    room = final - latest > len(late)
    for packet, place in zip(packets, times, strict=True):
        if place.pts < 0 or (place.pts >= span and packet.is_disposable):
            yield None
        elif place.pts >= span and room:
            yield PacketTimes(final - len(late) + late.index(place.pts), place.dts, 1)
        else:
            limit = final - len(late) if room else final
            yield PacketTimes(place.pts, place.dts, max(1, min(place.duration, limit - place.pts)))
