"""Reads a section of a video's sound as it is in the file: its own sample rate and channels, on an exact time line.

Every decoded frame lies at its time stamp. Time stamps are often rounded (to 1 ms in Matroska): a frame that is only a
little off follows the one before it without a gap. What the track leaves out, or what cannot be decoded, is silence.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import BinaryIO

import numpy as np
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.error import FFmpegError
from av.packet import Packet
from av.stream import Discard, Disposition

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import with_layout
from mmaudio_model.media.continuity import BROADCAST, INDEXED, LONGEST_GAP_S, Continuity, is_scanned
from mmaudio_model.media.decoded_samples import decoded_sound, duration_of
from mmaudio_model.media.probe import MediaLimits, opened, time_base
from mmaudio_model.media.section import exact_seconds, first_stamp
from mmaudio_model.media.waveform import Sound, resampled

LATE_S = 5
"""Sections that start later are sought; up to there, reading from the beginning is as fast and always exact."""
SEEK_EARLY_S = 1
"""Decoding begins this much earlier, since codecs need some frames to decode correctly."""
JITTER_S = Fraction(1, 100)
"""A time stamp that is off by less (and by less than half a frame) is taken for inexact, not for a gap."""
MAX_FAULTS = 100
MOST_WORK = 2
"""Reading ends after this many times the section's duration: time stamps that go back again and again are no sound."""
STEP_S = Fraction(1, 50)
"""Duration of a packet that declares none."""


@dataclass(frozen=True)
class TrackSection:
    """The sound of a section, padded with silence to its whole length, and where the track gave samples.

    Attributes:
        sound: None if the track gave no sample in the section.
        channels: of the track, as declared.
        given: times in seconds from the start of the section, in order, that do not overlap.
        faults: what could not be decoded, a message for each packet, at most 100.
    """

    sound: Sound | None
    channels: int
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


def read_track_section(
    file: BinaryIO, *, start_s: float, duration_s: float, limits: MediaLimits
) -> TrackSection | None:
    """Decode a section of a video's default audio track; None if there is no audio track.

    Args:
        start_s: the start of the section after the first shown frame.

    Raises:
        MediaInvalidError, MediaTooLargeError: see `probe.opened`; nothing is raised for the sound itself.
    """
    with opened(file, limits) as (container, video):
        if default_audio_track(container) is None:
            return None
        first = first_stamp(container, video, limits)
        origin = (first if first is not None else video.start_time or 0) * time_base(video) + exact_seconds(start_s)
        sought = start_s > LATE_S and not is_scanned(container)
    # Opened again each time: after a seek to the beginning, FFmpeg leaves out the first frame of some tracks.
    if sought:
        section = _read_section(file, origin, exact_seconds(duration_s), limits, late=True, seek=True)
        if section is not None:
            return section
    return _read_section(file, origin, exact_seconds(duration_s), limits, late=start_s > LATE_S, seek=False)


def _read_section(
    file: BinaryIO, origin: Fraction, duration: Fraction, limits: MediaLimits, *, late: bool, seek: bool
) -> TrackSection | None:
    """Read a section from the file's beginning or after a seek; None if the seek ended after the section's start.

    Args:
        late: the section begins late: what comes long before it is not decoded.
    """
    file.seek(0)
    with opened(file, limits) as (container, _):
        track = default_audio_track(container)
        assert track is not None, "the track was there when the file was opened before"
        for stream in container.streams:
            stream.discard = Discard.default if stream.index == track.index else Discard.all
        base = track.time_base or Fraction(1, 1_000_000)
        section = _SectionSound(origin, duration, base)
        decode_from = origin - SEEK_EARLY_S if late else None
        if seek:
            section.grid = _first_frame_end(container, track, base)
            try:
                container.seek(int((origin - SEEK_EARLY_S) / base), stream=track, backward=True)
            except FFmpegError:
                return None
        for index, (stamp, sound) in enumerate(_decoded(container, track, base, decode_from, section.faults)):
            if seek and index == 0 and (stamp is None or stamp > origin):
                return None  # the index is missing or wrong
            if not section.add(stamp, sound):
                break
        return section.finished(track.codec_context.layout.nb_channels if track.codec_context else 0)


def _first_frame_end(container: InputContainer, track: AudioStream, base: Fraction) -> Fraction | None:
    """Return the time at which the track's first frame ends, in seconds."""
    for stamp, sound in _decoded(container, track, base, None, []):
        return None if stamp is None else stamp + duration_of(sound)
    return None


def _decoded(
    container: InputContainer, track: AudioStream, base: Fraction, decode_from: Fraction | None, faults: list[str]
) -> Iterator[tuple[Fraction | None, Sound]]:
    """Yield decoded frames with their times in the container; packets that end before `decode_from` are skipped."""
    packets = container.demux(track)
    continuity: Continuity | None = None
    while True:
        try:
            packet = next(packets, None)
            if packet is None:
                return
            if continuity is None:
                continuity = _continuity(container, packet, base)
            continuity.apply(packet)
            if decode_from is not None and _ends_before(packet, decode_from, base):
                continue
            for frame in packet.decode():
                stamp = None if frame.pts is None else frame.pts * (frame.time_base or base)
                yield stamp, _without_padding(decoded_sound(frame), packet, base)
        except (FFmpegError, MediaInvalidError, ValueError) as exc:
            if len(faults) < MAX_FAULTS:
                faults.append(str(exc))


def _continuity(container: InputContainer, packet: Packet[AudioStream], base: Fraction) -> Continuity:
    """Return what continues the time stamps of a track where they restart, as those of the picture."""
    gap = int(LONGEST_GAP_S / base) if container.format.name in BROADCAST else None
    step = packet.duration or max(1, int(STEP_S / base))
    return Continuity(step, gap, active=container.format.name != INDEXED)


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
    grid: Fraction | None = None
    """Where the track's first frame ends, in the container's time; later ones begin whole frames after that."""
    faults: list[str] = field(default_factory=list)
    _sound: Sound | None = None
    _parts: list[_Part] = field(default_factory=list)
    _given: list[tuple[Fraction, Fraction]] = field(default_factory=list)
    _added_s: Fraction = Fraction(0)
    _clock: Fraction | None = None
    """End of the frame before, in seconds from the start of the section on."""

    def add(self, stamp: Fraction | None, sound: Sound) -> bool:
        """Add a frame with its time in the container; return False if no more is needed."""
        begin = self._begin(stamp, sound)
        self._added_s += duration_of(sound) if begin + duration_of(sound) > 0 else 0
        if begin >= self.duration or self._added_s > MOST_WORK * self.duration + SEEK_EARLY_S:
            return False
        self._clock = end = begin + duration_of(sound)
        if end > 0 and sound.samples:
            self._lay(begin, end, sound)
        return True

    def _begin(self, stamp: Fraction | None, sound: Sound) -> Fraction:
        clock = self._clock
        if stamp is None:
            return clock if clock is not None else Fraction(0)
        time = self._on_grid(stamp, sound) - self.origin
        if clock is None:
            return time
        jitter = max(2 * self.base, min(JITTER_S, duration_of(sound) / 2))
        return clock if abs(time - clock) <= jitter else time

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

    def finished(self, channels: int) -> TrackSection:
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
        return TrackSection(self._sound, channels, tuple(self._given), tuple(self.faults))


def _kind(sound: Sound) -> tuple[int, str]:
    return sound.sample_rate_hz, sound.layout


def _copy(sound: Sound, into: Sound, begin: Fraction) -> None:
    """Write a sound over another of the same kind, from a time in seconds on, as far as it lies within it."""
    place = round(begin * into.sample_rate_hz)
    first, last = max(place, 0), min(place + sound.samples, into.samples)
    if first < last:
        into.waveform[:, first:last] = sound.waveform[:, first - place : last - place]
