"""Reads a section of a video's sound as it is in the file: its own sample rate and channels, on an exact time line.

Every decoded frame lies at its time stamp. Time stamps are often rounded (to 1 ms in Matroska): a frame that is only a
little off follows the one before it without a gap. What the track leaves out, or what cannot be decoded, is silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import with_layout
from mmaudio_model.media.decoded_samples import decoded_sound, duration_of
from mmaudio_model.media.waveform import Sound, resampled

SEEK_FROM_S = 5
"""Sections that start later are sought; up to there, reading from the beginning is as fast and always exact."""
SEEK_EARLY_S = 1
"""Decoding begins this much earlier, since codecs need some frames to decode correctly."""
JITTER_S = Fraction(1, 100)
"""A time stamp that is off by less (and by less than half a frame) is taken for inexact, not for a gap."""
MAX_FAULTS = 100
OVERLAP_S = Fraction(1, 2)
"""Sound that goes back by more than this is a later recording whose time stamps begin anew: it follows."""


@dataclass(frozen=True)
class TrackSection:
    """The sound of a section, padded with silence to its whole length, and where the track gave samples.

    Attributes:
        sound: None if the track gave no sample in the section.
        given: times in seconds from the start of the section, in order, that do not overlap.
        faults: what could not be decoded, a message for each packet, at most 100.
    """

    sound: Sound | None
    given: tuple[tuple[Fraction, Fraction], ...] = ()
    faults: tuple[str, ...] = ()

    @property
    def given_s(self) -> float:
        """How much of the section the track gave samples for, in seconds."""
        return float(sum((end - begin for begin, end in self.given), Fraction(0)))


def default_audio_track(container: InputContainer) -> AudioStream | None:
    """Return the audio track that a player plays: the first that is marked as default, or else the first."""
    tracks = list(container.streams.audio)
    marked = (track for track in tracks if track.disposition & Disposition.default)
    return next(marked, tracks[0] if tracks else None)


def read_track(
    container: InputContainer, track: AudioStream, origin: Fraction, duration: Fraction, *, seek: bool
) -> TrackSection:
    """Decode a section of an audio track. Other streams of the container are not read any more.

    Args:
        origin: the start of the section in the container's time, in seconds.
        duration: of the section, in seconds.
        seek: jump close to the section, instead of reading from the beginning of the file.
    """
    for stream in container.streams:
        stream.discard = Discard.default if stream.index == track.index else Discard.all
    base = track.time_base or Fraction(1, 1_000_000)
    grid = None
    if seek:
        grid = _first_frame_end(container, track, base)
        try:
            container.seek(int((origin - SEEK_EARLY_S) / base), stream=track, backward=True)
        except FFmpegError:
            seek = False
        section = _SectionSound(origin, duration, base, grid)
        if seek and _read(container, track, section, must_begin_before=origin):
            return section.finished()
        container.seek(0)  # the index is missing or wrong
    section = _SectionSound(origin, duration, base, grid)
    _read(container, track, section, must_begin_before=None)
    return section.finished()


def _first_frame_end(container: InputContainer, track: AudioStream, base: Fraction) -> Fraction | None:
    """Return the time at which the track's first frame ends, in seconds."""
    for stamp, sound in _decoded(container, track, base, None, []):
        return None if stamp is None else stamp + duration_of(sound)
    return None


def _read(
    container: InputContainer, track: AudioStream, section: _SectionSound, *, must_begin_before: Fraction | None
) -> bool:
    """Read until the end of the section; return False at once if the first frame does not begin early enough."""
    first = True
    # Without a known first frame, reading began with it, and it is needed.
    decode_from = None if section.grid is None else section.origin - SEEK_EARLY_S
    for stamp, sound in _decoded(container, track, section.base, decode_from, section.faults):
        if first and must_begin_before is not None and (stamp is None or stamp > must_begin_before):
            return False
        first = False
        if not section.add(stamp, sound):
            break
    return not first or must_begin_before is None


def _decoded(
    container: InputContainer, track: AudioStream, base: Fraction, decode_from: Fraction | None, faults: list[str]
) -> Iterator[tuple[Fraction | None, Sound]]:
    """Yield decoded frames with their times in the container; packets that end before `decode_from` are skipped."""
    packets = container.demux(track)
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if decode_from is not None and _ends_before(packet, decode_from, base):
                continue
            for frame in packet.decode():
                stamp = None if frame.pts is None else frame.pts * (frame.time_base or base)
                yield stamp, _without_padding(decoded_sound(frame), packet, base)
        except (FFmpegError, MediaInvalidError, ValueError) as exc:
            if len(faults) < MAX_FAULTS:
                faults.append(str(exc))


def _ends_before(packet: Packet[AudioStream], time: Fraction, base: Fraction) -> bool:
    # the empty packet at the end makes the decoder give its last frames
    return packet.size > 0 and packet.pts is not None and (packet.pts + (packet.duration or 0)) * base < time


def _without_padding(sound: Sound, packet: Packet[AudioStream], base: Fraction) -> Sound:
    """Return a frame without what its packet does not declare: encoders fill up the last one (MP4)."""
    declared = packet.duration or 0
    if not 0 < declared < sound.samples or base * sound.sample_rate_hz != 1:
        return sound
    return Sound(sound.waveform[:, :declared], sound.sample_rate_hz, sound.layout)


@dataclass
class _Part:
    """Samples of another rate or layout than the section's first ones; times in seconds from its start on."""

    begin: Fraction
    end: Fraction
    sounds: list[Sound]


@dataclass
class _SectionSound:
    """Puts decoded frames on the section's time line."""

    origin: Fraction
    duration: Fraction
    base: Fraction
    grid: Fraction | None
    """Where the track's first frame ends, in the container's time; later ones begin whole frames after that."""
    faults: list[str] = field(default_factory=list)
    _sound: Sound | None = None
    _parts: list[_Part] = field(default_factory=list)
    _given: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    _clock: Fraction | None = None
    """End of the frame before, in seconds from the start of the section on."""
    _restart: Fraction = Fraction(0)
    """How far time stamps that began anew are moved."""

    def add(self, stamp: Fraction | None, sound: Sound) -> bool:
        """Add a frame with its time in the container; return False if it begins after the section."""
        begin = self._begin(stamp, sound)
        if begin >= self.duration:
            return False
        self._clock = end = begin + duration_of(sound)
        if end > 0 and sound.samples:
            self._lay(begin, end, sound)
        return True

    def _begin(self, stamp: Fraction | None, sound: Sound) -> Fraction:
        clock = self._clock
        if stamp is None:
            return clock if clock is not None else Fraction(0)
        time = self._on_grid(stamp, sound) - self.origin + self._restart
        if clock is None:
            return time
        jitter = max(2 * self.base, min(JITTER_S, duration_of(sound) / 2))
        if abs(time - clock) <= jitter:
            return clock
        if time < clock - OVERLAP_S:
            self._restart += clock - time
            return clock
        return time

    def _on_grid(self, stamp: Fraction, sound: Sound) -> Fraction:
        """Return a time stamp as it was before it was rounded to the time base, if frames are equally long."""
        if self.grid is None:
            self.grid = stamp + duration_of(sound)
        if self.base * sound.sample_rate_hz <= 1 or not sound.samples:
            return stamp
        step = duration_of(sound)
        exact = self.grid + round((stamp - self.grid) / step) * step
        return exact if abs(exact - stamp) <= self.base else stamp

    def _lay(self, begin: Fraction, end: Fraction, sound: Sound) -> None:
        self._note_given(max(begin, Fraction(0)), min(end, self.duration))
        if self._sound is None:
            samples = round(self.duration * sound.sample_rate_hz)
            silence = np.zeros((sound.channels, samples), np.float32)
            self._sound = Sound(silence, sound.sample_rate_hz, sound.layout)
        if (sound.sample_rate_hz, sound.layout) == (self._sound.sample_rate_hz, self._sound.layout):
            _copy(sound, self._sound, begin)
            return
        last = self._parts[-1] if self._parts else None
        same = last is not None and _kind(last.sounds[-1]) == _kind(sound) and last.end == begin
        if last is not None and same:
            last.sounds.append(sound)
            last.end = end
        else:
            self._parts.append(_Part(begin, end, [sound]))

    def _note_given(self, begin: Fraction, end: Fraction) -> None:
        if self._given and begin <= self._given[-1][1]:
            before = self._given.pop()
            begin, end = min(begin, before[0]), max(end, before[1])
        self._given.append((begin, end))

    def finished(self) -> TrackSection:
        if self._sound is not None:
            for part in self._parts:
                first = part.sounds[0]
                whole = Sound(
                    np.concatenate([sound.waveform for sound in part.sounds], axis=1),
                    first.sample_rate_hz,
                    first.layout,
                )
                alike = resampled(with_layout(whole, self._sound.layout), self._sound.sample_rate_hz)
                _copy(alike, self._sound, part.begin)
        return TrackSection(self._sound, tuple(self._given), tuple(self.faults))


def _kind(sound: Sound) -> tuple[int, str]:
    return sound.sample_rate_hz, sound.layout


def _copy(sound: Sound, into: Sound, begin: Fraction) -> None:
    """Write a sound over another of the same kind, from a time in seconds on, as far as it lies within it."""
    place = round(begin * into.sample_rate_hz)
    first, last = max(place, 0), min(place + sound.samples, into.samples)
    if first < last:
        into.waveform[:, first:last] = sound.waveform[:, first - place : last - place]
