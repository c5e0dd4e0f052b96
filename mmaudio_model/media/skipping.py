"""Leaves out the decoding of frames that nobody wants to see and on which no other frame depends.

Packets are read ahead of decoding, so that it is known from their time stamps when each frame is shown. What is decoded
is bit for bit what it would be without this module.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Literal

from av.packet import Packet
from av.video.stream import VideoStream

# A frame is decoded at most 16 frames before it is shown; two fields may be two packets.
AHEAD = 34
# Decoders that leave out exactly the frames on which no other depends when told so.
SKIPPING = frozenset({"h264", "hevc"})
FIELDS_UNKNOWN, PROGRESSIVE = 0, 1  # AVFieldOrder
# Other packets are not decoded at all where every frame stands for itself.
How = Literal["DEFAULT", "NONREF", "ALL"]
DECODE: How = "DEFAULT"
DECODE_REFERENCES: How = "NONREF"
LEAVE_OUT: How = "ALL"

Wanted = Callable[[Fraction, Fraction], bool]
"""Says whether a frame shown from one time to another, in seconds from the start of the section, is to be decoded."""


@dataclass
class Skipping:
    """Decides for each packet, in decoding order, how much of it is decoded."""

    wanted: Wanted
    base: Fraction
    start: Fraction | None = None
    """Time stamp of the start of the section, once it is known; until then everything is decoded."""
    missed: bool = False
    """Whether a wanted frame did not come: what a player shows instead may have been left out."""
    _active: bool = True
    _shown: list[int] = field(default_factory=list)
    _expected: set[int] = field(default_factory=set)

    def restart(self) -> None:
        """Begin anew, from another place of the file."""
        self.missed, self._active = False, True
        self._shown.clear()
        self._expected.clear()

    def planned(
        self, packets: Iterator[Packet[VideoStream]], otherwise: How
    ) -> Iterator[tuple[Packet[VideoStream], How]]:
        """Yield the packets with DECODE or, if their frame is not wanted, `otherwise`."""
        waiting: deque[Packet[VideoStream]] = deque()
        ahead = AHEAD if otherwise == DECODE_REFERENCES else 1
        for packet in packets:
            waiting.append(packet)
            if packet.size and not packet.is_discard:
                if packet.pts is None:
                    self._active = False
                else:
                    insort(self._shown, packet.pts)
            if len(waiting) > ahead:
                yield self._decided(waiting.popleft(), otherwise)
        while waiting:
            yield self._decided(waiting.popleft(), otherwise)
        self.missed |= bool(self._expected)

    def came(self, stamp: int) -> None:
        """Note a decoded frame; no earlier one comes later."""
        self._expected.discard(stamp)
        self.missed |= any(earlier < stamp for earlier in self._expected)
        del self._shown[: max(0, bisect_right(self._shown, stamp) - AHEAD)]

    def _decided(self, packet: Packet[VideoStream], otherwise: How) -> tuple[Packet[VideoStream], How]:
        if not self._active or self.start is None or not packet.size or packet.pts is None:
            return packet, DECODE
        if packet.is_discard:
            return packet, otherwise
        following = bisect_right(self._shown, packet.pts)
        if following == len(self._shown):
            return packet, DECODE
        time_s, until_s = ((stamp - self.start) * self.base for stamp in (packet.pts, self._shown[following]))
        if not self.wanted(time_s, until_s):
            return packet, otherwise
        self._expected.add(packet.pts)
        return packet, DECODE


def skippable(stream: VideoStream) -> How | None:
    """Return what can be done with the packets of frames that are not wanted; None: they must be decoded."""
    context = stream.codec_context
    if context.codec.intra_only:
        return LEAVE_OUT
    # The two fields of an interlaced frame may be packets of their own.
    if context.name not in SKIPPING or context.field_order not in (FIELDS_UNKNOWN, PROGRESSIVE):
        return None
    if context.name == "hevc" and _temporal_layers(context.extradata or b"") != 1:
        return None
    return DECODE_REFERENCES


def _temporal_layers(extradata: bytes) -> int:
    """Return the number of temporal layers that MP4 or Matroska declares for HEVC; 0 if it is unknown.

    With several, a frame on which none of its layer depends may be needed by one of a higher layer.
    """
    return extradata[21] >> 3 & 7 if len(extradata) > 22 and extradata[0] == 1 else 0
