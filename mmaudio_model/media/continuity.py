"""Continues the time stamps of a stream where they restart, as in several recordings in one file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.video.stream import VideoStream

from mmaudio_model.media.probe import frame_rate, time_base

# Containers of broadcasting: time stamps of 33 bits, which wrap after 26.5 hours and restart where recordings meet.
BROADCAST = frozenset({"mpegts", "mpeg"})
# Their index gives each packet its time; where an edit list repeats packets, the decoding times go back.
INDEXED = "mov,mp4,m4a,3gp,3g2,mj2"
# A longer gap in them is a restart and no standing picture; ffmpeg has the same limit.
LONGEST_GAP_S = 10
# Packets come before the first frame shown by less than this: reordering, and what an edit list hides.
REWIND_S = 100_000
# Up to this size their packets are read from the beginning to find a section; larger files are sought by time.
SCANNED_BYTES = 256 * 1024**2


@dataclass
class Continuity:
    """Adds to the time stamps of packets, in the file's order, what the clock lost at restarts.

    A decoding time behind the one before it is a restart, and in the containers of broadcasting one far ahead. The
    packet is then decoded one frame after the one before it. Time stamps that wrap look like a restart.
    """

    step: int
    """Duration of a frame, in units of the time base."""
    longest_gap: int | None
    """A longer one is a restart; None: none is."""
    active: bool = True
    shift: int = 0
    _last: int | None = None

    @classmethod
    def of(cls, container: InputContainer, stream: VideoStream, shift: int = 0) -> Continuity:
        base = time_base(stream)
        broadcast = container.format.name in BROADCAST
        gap = int(LONGEST_GAP_S / base) if broadcast else None
        # Matroska has no decoding times, and those that FFmpeg makes up after a seek go back.
        active = container.format.name != INDEXED and not container.format.name.startswith("matroska")
        return cls(frame_ticks(stream), gap, active=active, shift=shift)

    def apply(self, packet: Packet[Any]) -> None:
        """Shift the time stamps of the next packet."""
        if self.active and packet.dts is not None:
            dts = packet.dts + self.shift
            if self._last is not None and self._restarts(dts - self._last):
                self.shift += self._last + self.step - dts
                dts = self._last + self.step
            self._last = dts
        if self.shift:
            packet.dts = None if packet.dts is None else packet.dts + self.shift
            packet.pts = None if packet.pts is None else packet.pts + self.shift

    def jumps(self, dts: int | None, last: int | None) -> bool:
        """Return whether two successive decoding times are further apart than a standing picture is shown."""
        if dts is None or last is None or self.longest_gap is None:
            return False
        return dts - last > self.longest_gap

    def _restarts(self, ahead: int) -> bool:
        return ahead < -self.step or (self.longest_gap is not None and ahead > self.longest_gap)


def frame_ticks(stream: VideoStream) -> int:
    """Return the duration of a frame at the average rate, in units of the time base, at least 1."""
    return max(1, round(1 / (frame_rate(stream) * time_base(stream))))


def continued(
    container: InputContainer, stream: VideoStream, continuity: Continuity, damaged: list[str]
) -> Iterator[Packet[VideoStream]]:
    """Demux the stream's packets with continued time stamps; the last one is empty and flushes the decoder.

    Where the file ends in the middle of a packet, one message is added to `damaged`.
    """
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets, None)
        except FFmpegError as exc:
            damaged.append(str(exc))
            return
        if packet is None:
            return
        continuity.apply(packet)
        yield packet


def rewind(container: InputContainer, stream: VideoStream) -> None:
    """Go back to the file's first packet, whatever its time stamp."""
    if container.format.name in BROADCAST:
        container.seek(0, unsupported_byte_offset=True)  # times may begin anywhere and wrap
    else:
        first = stream.start_time or 0
        try:
            container.seek(first - int(REWIND_S / time_base(stream)), stream=stream, backward=True)
        except FFmpegError:  # AVI refuses times before its first packet, and a file without packets any time
            with contextlib.suppress(FFmpegError):
                container.seek(first, stream=stream, backward=True)


@dataclass(frozen=True)
class KeyFramePlace:
    """Where a key frame begins in a file: its first byte, and the shift of the time stamps from there on."""

    position: int
    shift: int


def is_scanned(container: InputContainer) -> bool:
    """Return whether a section is to be found by reading all packets before it."""
    return container.format.name in BROADCAST and 0 < container.size <= SCANNED_BYTES


def keyframe_places(container: InputContainer, stream: VideoStream, until: Fraction) -> list[KeyFramePlace]:
    """Return the places of the key frames up to a time, in units of the time base, by reading from the beginning."""
    rewind(container, stream)
    continuity, places = Continuity.of(container, stream), []
    for packet in continued(container, stream, continuity, []):
        if packet.dts is not None and packet.dts > until:
            break
        if packet.is_keyframe and packet.size and packet.pos is not None:
            places.append(KeyFramePlace(packet.pos, continuity.shift))
    return places
