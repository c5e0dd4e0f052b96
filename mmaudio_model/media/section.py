"""The frames of a section of a video, with exact times.

Times are whole numbers in the unit of the stream's time base, or fractions of a second, and never floats: different
time stamps stay different, and the frame that begins at the start of the section is not taken for the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from mmaudio_model.errors import MediaTooLargeError
from mmaudio_model.media.continuity import Continuity, continued, frame_ticks, is_scanned, keyframe_places, rewind
from mmaudio_model.media.decoder_threads import limit_threads
from mmaudio_model.media.one_stamp import has_decoding_times_only
from mmaudio_model.media.picture_size import KeyFrameSizes
from mmaudio_model.media.probe import MediaLimits, check_preroll, time_base, too_many_pixels
from mmaudio_model.media.skipping import DECODE, LEAVE_OUT, How, Skipping, skippable

# Below this start, decoding from the beginning is cheaper and more reliable than seeking.
SEEK_FROM_S = 2
# A seek ends near the time, and the first frame that can be decoded may come after it: how far to go back then.
SEEK_BACK_S = (0, 2, 12, 72)
# Starts are decimals such as 3.48 or quotients such as 10/30; both are exact with this denominator.
LARGEST_DENOMINATOR = 1_000_000

Stamped = tuple[int, VideoFrame]
"""A frame and its time stamp, in units of the stream's time base."""


@dataclass(frozen=True)
class SectionFrame:
    """A frame and the part of the section in which it is shown."""

    ticks: int
    """Time from the start of the section in units of the stream's time base: 0, then strictly increasing. If the start
    lies between two units, all but the first are late by less than one; `time_s` is exact."""
    time_s: Fraction
    """Time from the start of the section, in seconds, at least 0."""
    until_s: Fraction
    """When the next frame is shown, or the section or the video ends."""
    frame: VideoFrame


def exact_seconds(value: float) -> Fraction:
    """Return the decimal or the quotient that a float stands for."""
    return Fraction(value).limit_denominator(LARGEST_DENOMINATOR)


def section_frames(
    container: InputContainer,
    stream: VideoStream,
    start_s: float,
    duration_s: float | None,
    limits: MediaLimits,
    damaged: list[str],
    skipping: Skipping | None = None,
) -> Iterator[SectionFrame]:
    """Yield the frames that are shown in the section, in that order; none if the video ends before it.

    The first is the one shown at the start. Times count from the first frame that the video shows, whatever its time
    stamp. Where time stamps restart, as in several recordings in one file, the clock goes on.

    Args:
        container: freshly opened.
        start_s, duration_s: the section, in seconds; None: up to the end of the video.
        damaged: is given a message for each part that cannot be decoded.
        skipping: says which frames are needed; others may be missing.

    Raises:
        MediaTooLargeError: too much would have to be decoded, or the picture grows beyond the limit.
    """
    base = time_base(stream)
    end_s = None if duration_s is None else exact_seconds(duration_s)
    start, frames = _from_start(container, stream, exact_seconds(start_s), limits, damaged, skipping)
    shown: Stamped | None = None
    for stamp, frame in frames:
        time_s = (stamp - start) * base
        if shown is not None and time_s > 0:
            yield _placed(shown, start, base, time_s if end_s is None else min(time_s, end_s))
            if end_s is not None and time_s >= end_s:
                return
        shown = stamp, frame
    if shown is not None:
        until_s = (shown[0] + _duration(shown[1], stream) - start) * base
        if until_s > 0:
            yield _placed(shown, start, base, until_s if end_s is None else min(until_s, end_s))


def first_stamp(container: InputContainer, stream: VideoStream, limits: MediaLimits) -> int | None:
    """Return the time stamp of the first frame that the video shows, from which all times count; None if there is none.

    It is decoded, since the header may declare another: a transport stream may begin with frames that cannot be
    decoded, and an edit list hides some. The container is left at its beginning.
    """
    decoding_times = has_decoding_times_only(container, stream)
    continuity = Continuity.of(container, stream)
    first = next(_decoded(container, stream, continuity, limits, [], decoding_times=decoding_times), None)
    rewind(container, stream)
    return None if first is None else first[0]


def _placed(shown: Stamped, start: Fraction, base: Fraction, until_s: Fraction) -> SectionFrame:
    stamp, frame = shown
    # Counted from the whole unit before the start, so that only the first frame is at 0.
    ticks = stamp - start.numerator // start.denominator if stamp > start else 0
    return SectionFrame(ticks, max(Fraction(0), (stamp - start) * base), until_s, frame)


def _duration(frame: VideoFrame, stream: VideoStream) -> int:
    """Return how long a frame without a successor is shown, in units of the time base."""
    step = frame_ticks(stream)
    # The packet may hold only the first of two fields.
    return max(frame.duration, step) if frame.interlaced_frame else frame.duration or step


def _from_start(
    container: InputContainer,
    stream: VideoStream,
    start_s: Fraction,
    limits: MediaLimits,
    damaged: list[str],
    skipping: Skipping | None,
) -> tuple[Fraction, Iterator[Stamped]]:
    """Return the time stamp of the start, and frames from the one shown there or an earlier one."""
    limit_threads(stream.codec_context)
    after_origin = start_s / time_base(stream)
    decoding_times = has_decoding_times_only(container, stream)
    known = len(damaged)

    def decoded(shift: int = 0, *, sought: bool = False) -> Iterator[Stamped]:
        del damaged[known:]
        if skipping is not None:
            skipping.restart()
        continuity = Continuity.of(container, stream, shift)
        return _decoded(
            container,
            stream,
            continuity,
            limits,
            damaged,
            decoding_times=decoding_times,
            skipping=skipping,
            sought=sought,
        )

    frames = decoded()
    first = next(frames, None)
    if first is None:
        return Fraction(0), iter(())
    start = first[0] + after_origin
    if skipping is not None:
        skipping.start = start
    if start_s < SEEK_FROM_S:
        return start, chain([first], frames)
    for shift in _seeks(container, stream, start):
        frames = decoded(shift, sought=True)
        first = next(frames, None)
        if first is not None and first[0] <= start:
            check_preroll((start - first[0]) * time_base(stream), limits)
            return start, chain([first], frames)
    check_preroll(start_s, limits)
    rewind(container, stream)
    return start, decoded()


def _seeks(container: InputContainer, stream: VideoStream, start: Fraction) -> Iterator[int]:
    """Seek to key frames before a time stamp, each time further back; yield the shift of the time stamps there."""
    if is_scanned(container):
        for place in reversed(keyframe_places(container, stream, start)[-len(SEEK_BACK_S) :]):
            container.seek(place.position, unsupported_byte_offset=True)
            yield place.shift
        return
    for back_s in SEEK_BACK_S:
        try:
            container.seek(int(start - back_s / time_base(stream)), stream=stream, backward=True)
        except FFmpegError:  # no key frame before
            return
        yield 0


def _decoded(
    container: InputContainer,
    stream: VideoStream,
    continuity: Continuity,
    limits: MediaLimits,
    damaged: list[str],
    *,
    decoding_times: bool,
    skipping: Skipping | None = None,
    sought: bool = False,
) -> Iterator[Stamped]:
    """Decode in the order of presentation; time stamps increase strictly.

    A frame without a time stamp follows the one before it; none is yielded if the first one after a seek has none.

    Args:
        decoding_times: see `one_stamp.has_decoding_times_only`.
    """
    last, following = None, stream.start_time or 0
    pixels = count = 0
    sizes = KeyFrameSizes(stream, limits.max_pixels)
    packets = continued(container, stream, continuity, damaged)
    otherwise = None if skipping is None or decoding_times else skippable(stream)
    for packet, how in _planned(packets, skipping, otherwise):
        sizes.remember(packet)
        if how == LEAVE_OUT:
            continue
        stream.codec_context.skip_frame = how
        try:
            frames = packet.decode()
        except FFmpegError as exc:
            sizes.check()
            damaged.append(str(exc))
            continue
        for frame in frames:
            count, pixels = count + 1, pixels + frame.width * frame.height
            _check_limits(frame, count, pixels, limits)
            stamp = frame.dts if decoding_times else frame.pts
            if stamp is None:
                if sought and last is None:
                    return
                stamp = following
            if last is not None and stamp <= last:  # a player never shows it
                continue
            last, following = stamp, stamp + (frame.duration or continuity.step)
            if skipping is not None:
                skipping.came(stamp)
            yield stamp, frame


def _planned(
    packets: Iterator[Packet[VideoStream]], skipping: Skipping | None, otherwise: How | None
) -> Iterator[tuple[Packet[VideoStream], How]]:
    if skipping is None or otherwise is None:
        return ((packet, DECODE) for packet in packets)
    return skipping.planned(packets, otherwise)


def _check_limits(frame: VideoFrame, count: int, pixels: int, limits: MediaLimits) -> None:
    if frame.width * frame.height > limits.max_pixels:  # the size may change within the stream
        raise MediaTooLargeError(too_many_pixels(frame.width, frame.height, limits))
    if count > limits.max_decoded_frames:
        raise MediaTooLargeError(f"The section has more than {limits.max_decoded_frames} frames; choose a shorter one.")
    if pixels > limits.max_decoded_pixels:
        raise MediaTooLargeError(
            f"From the key frame before the section to its end, the frames have more than "
            f"{limits.max_decoded_pixels / 1e9:.0f} thousand megapixels; choose a shorter section or an earlier start."
        )
