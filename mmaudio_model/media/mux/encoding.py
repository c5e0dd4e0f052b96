"""Decodes a section of a video and encodes it again, where it cannot be copied.

Times are whole numbers: the first frame is at 0, no two frames are at the same time, and the last one is shown until
the section ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.media_warning import MediaWarning, skipped_parts
from mmaudio_model.media.mux.alpha_decoding import with_alpha
from mmaudio_model.media.mux.conversion import Conversion
from mmaudio_model.media.mux.encoder_choice import (
    CAPTIONS_LEFT_OUT,
    SHOWN_ON_BLACK,
    EncoderSettings,
    Encoding,
    changed_picture,
    choose_encoding,
)
from mmaudio_model.media.mux.encoding_memory import encoder_load
from mmaudio_model.media.mux.picture_facts import sample_aspect
from mmaudio_model.media.probe import MediaLimits, time_base
from mmaudio_model.media.section import exact_seconds, section_frames

# Units of time in a second that every container and player takes.
MOST_TICKS = 1_000_000
FEWEST_TICKS = 90_000


class Reencoding:
    """Encodes a section of a video into a new stream of an output container.

    The stream is added when this is made, so that the caller can add others; `packets` then does the work, and
    `warnings` is complete afterwards.
    """

    def __init__(
        self,
        container: Any,
        stream: VideoStream,
        out: Any,
        *,
        target: str,
        start_s: float,
        duration_s: float,
        settings: EncoderSettings | None = None,
        limits: MediaLimits,
    ) -> None:
        """Read the first frame and add the stream.

        Args:
            container, stream: the source, positioned at its start.
            target: kind of the output container: `mp4`, `mov`, `mkv` or `webm`.

        Raises:
            MediaInvalidError: no frame of the section can be decoded, or the encoder refuses the picture.
        """
        self._source = stream
        self._start = exact_seconds(start_s)
        self._duration = exact_seconds(duration_s)
        self._damaged: list[str] = []
        # The decoder holds pictures for each of its threads, as the encoder does.
        stream.thread_count = encoder_load(stream.codec_context.width, stream.codec_context.height).decoder_threads
        container = with_alpha(container, stream, limits.max_pixels)
        self._frames = section_frames(container, stream, start_s, duration_s, limits, self._damaged)
        first = next(self._frames, None)
        if first is None:
            raise MediaInvalidError("The video is damaged: none of its frames can be decoded.")
        self._first: VideoFrame | None = first.frame
        self.encoding = choose_encoding(stream, first.frame, target, settings)
        self.time_base = output_time_base(time_base(stream), self._start, self._duration, self.encoding.facts.rate)
        self.stream = _added_stream(out, self.encoding, self.time_base)
        self._conversion = Conversion(self.encoding)

    @property
    def warnings(self) -> tuple[MediaWarning, ...]:
        """What could not be kept; parts of it are known only when all packets have been read."""
        changes = [*self.encoding.changes]
        conversion = self._conversion
        if conversion.transparent and SHOWN_ON_BLACK not in changes:
            changes.append(SHOWN_ON_BLACK)
        if conversion.captions and not self.encoding.has_captions and CAPTIONS_LEFT_OUT not in changes:
            changes.append(CAPTIONS_LEFT_OUT)
        if conversion.refitted:
            changes.append(
                f"the size or shape of {conversion.refitted} frames differs from that of the first; "
                "they were scaled to fit it"
            )
        if conversion.interlaced_as_progressive and not self.encoding.facts.field_order.interlaced:
            changes.append(
                f"{conversion.interlaced_as_progressive} frames are interlaced and the first one is not; "
                "all are stored as whole frames"
            )
        damaged = (skipped_parts(len(self._damaged)),) if self._damaged else ()
        return (*damaged, *changed_picture(tuple(changes)))

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """Yield the encoded packets in decoding order, with exact times and durations.

        Raises:
            MediaInvalidError: the encoder refuses a frame.
            MediaTooLargeError: the encoder gets too little memory.
        """
        waiting: Packet[VideoStream] | None = None
        first = last_shown = 0
        for packet in self._all_packets():
            if waiting is None:
                first = packet.dts or 0
            else:
                yield waiting
            waiting = packet
            last_shown = max(last_shown, packet.pts or 0)
        assert waiting is not None, "every encoder returns a packet"
        if waiting.pts is not None and waiting.pts < last_shown:
            # MP4 adds up the times from packet to packet in decoding order, so the last one there counts until the end.
            counted = (waiting.dts or 0) - first
            waiting.duration = max(1, min(self._end() - counted, self._end() - waiting.pts))
        yield waiting

    def _all_packets(self) -> Iterator[Packet[VideoStream]]:
        durations: dict[int, int] = {}
        for ticks, duration, frame in self._timed():
            durations[ticks] = duration
            picture = self._conversion.converted(frame, sample_aspect(self._source))
            picture.pts, picture.time_base, picture.duration = ticks, self.time_base, duration
            yield from self._encoded(picture, durations)
        yield from self._encoded(None, durations)

    def _end(self) -> int:
        """Return the end of the section, in units of the output's time base."""
        return max(1, round(self._duration / self.time_base))

    def _timed(self) -> Iterator[tuple[int, int, VideoFrame]]:
        """Yield (time, duration, frame), in units of the output's time base."""
        end = self._end()
        assert self._first is not None, "the frames are read once"
        waiting = (0, self._first)
        self._first = None  # a large picture is not held longer than it is needed
        for shown in self._frames:
            ticks = round(self._regular(shown.time_s) / self.time_base)
            if ticks >= end:
                break
            ticks = max(ticks, waiting[0] + 1)  # a rounded time may be that of the frame before
            yield waiting[0], ticks - waiting[0], waiting[1]
            waiting = (ticks, shown.frame)
        yield waiting[0], max(1, end - waiting[0]), waiting[1]

    def _regular(self, seconds: Fraction) -> Fraction:
        """Return the exact time of a frame of a constant rate, where the source's units are too coarse for it."""
        rate, unit = self.encoding.facts.rate, time_base(self._source)
        if self._source.base_rate != self._source.average_rate or (1 / (rate * unit)).denominator == 1:
            return seconds
        since_origin = seconds + self._start
        nearest = round(since_origin * rate) / rate
        return nearest - self._start if abs(nearest - since_origin) <= unit else seconds

    def _encoded(self, picture: VideoFrame | None, durations: dict[int, int]) -> Iterator[Packet[VideoStream]]:
        try:
            packets = self.stream.encode(picture)
        except MemoryError as exc:
            raise MediaTooLargeError(_too_little_memory(self.encoding)) from exc
        except FFmpegError as exc:
            raise MediaInvalidError(
                f"The picture ({self.encoding.width}x{self.encoding.height}, {self.encoding.facts.pix_fmt}) cannot be "
                f"encoded by {self.encoding.codec}: {exc.strerror}."
            ) from exc
        for packet in packets:
            if packet.pts is not None:
                packet.duration = durations.pop(packet.pts, packet.duration)
            yield packet


def output_time_base(source: Fraction, start: Fraction, duration: Fraction, rate: Fraction) -> Fraction:
    """Return a unit in which times counted from the start of the section are whole numbers.

    These are the times of the source's frames, of frames at its nominal rate, and the end. Where a unit would be too
    fine for players, the last two are left out, and the unit is fine enough for the difference not to matter.
    """
    exact = math.lcm(source.denominator, start.denominator)
    for others in ((duration.denominator, rate.numerator), (duration.denominator,)):
        if (ticks := math.lcm(exact, *others)) <= MOST_TICKS:
            return Fraction(1, ticks)
    ticks = next(
        (
            ticks
            for ticks in (math.lcm(exact, rate.numerator), exact, math.lcm(source.denominator, rate.numerator))
            if ticks <= MOST_TICKS
        ),
        min(source.denominator, MOST_TICKS),
    )
    return Fraction(1, ticks * max(1, -(-FEWEST_TICKS // ticks)))


def _added_stream(out: Any, encoding: Encoding, unit: Fraction) -> Any:
    facts = encoding.facts
    added = out.add_stream(encoding.codec, rate=facts.rate, options=dict(encoding.options))
    added.width, added.height, added.pix_fmt = encoding.width, encoding.height, encoding.pix_fmt
    context = added.codec_context
    context.time_base = unit
    if encoding.sample_aspect:
        context.sample_aspect_ratio = encoding.sample_aspect
    context.color_primaries, context.color_trc = facts.primaries, facts.transfer
    context.colorspace, context.color_range = encoding.matrix, encoding.color_range
    if encoding.interlaced:
        context.field_order = int(facts.field_order)
    if encoding.tag is not None:
        context.codec_tag = encoding.tag
    if facts.display_matrix is not None:
        added.set_display_matrix(facts.display_matrix)
    added.metadata.update(encoding.metadata)
    return added


def _too_little_memory(encoding: Encoding) -> str:
    return f"Encoding a picture of {encoding.width}x{encoding.height} pixels needs more memory than is allowed."
