"""What becomes of a file: it is read and gets a sound, as a worker does it but without a model and a sandbox."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.logging
import numpy as np
from av.error import FFmpegError

from mmaudio_model.errors import MediaError
from mmaudio_model.media.animation import as_video
from mmaudio_model.media.frames import read_video_frames
from mmaudio_model.media.image import read_image
from mmaudio_model.media.mux.decisions import MuxOptions
from mmaudio_model.media.mux.writing import MuxResult, mux_video
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.source_facts import read_source_facts
from mmaudio_model.media.waveform import Sound
from tests.media_collection.compare import Difference, differences
from tests.media_collection.facts import Facts, facts_of
from tests.media_collection.kind import Kind

LIMITS = MediaLimits()
SIDE = 64
RATE_HZ = 16_000
TONE = 0.2
# Half a frame of a video at 25 frames a second.
SOUND_TOLERANCE_S = 0.02
WHOLE_S = Fraction(8)


@dataclass(frozen=True)
class Muxed:
    """A result of a section, or the sentence that refuses it."""

    refused: str | None = None
    error: str | None = None
    container: str = ""
    reencoded: bool = False
    warnings: tuple[str, ...] = ()
    facts: Facts | None = None
    differences: tuple[Difference, ...] = ()

    def unnamed(self) -> list[Difference]:
        """Return what differs without a word."""
        return [one for one in self.differences if not one.named(self.warnings)]


@dataclass(frozen=True)
class Outcome:
    """What became of one file: of reading it, of its whole, and of a section that starts off a key frame."""

    kind: Kind
    source: Facts | None
    read: tuple[str, ...] | None = None
    refused: str | None = None
    error: str | None = None
    clip: np.ndarray = field(default_factory=lambda: np.zeros(0))
    sync: np.ndarray = field(default_factory=lambda: np.zeros(0))
    covered_s: float = 0.0
    whole: Muxed = Muxed()
    section: Muxed = Muxed()


def outcome_of(kind: Kind, path: Path, out: Path) -> Outcome:
    """Read a file of a kind, and mux a section and its whole with a tone; the latter stays at `out`."""
    if kind.still:
        return _still(kind, path)
    try:
        # FFmpeg decodes no animated WebP: the video that is made of it is compared.
        with path.open("rb") as file, as_video(file, LIMITS) as video:
            source = facts_of(video)
    except FFmpegError:  # then the file has to be refused
        source = None
    try:
        with path.open("rb") as file:
            declared = read_source_facts(file, section_end_s=float(WHOLE_S), limits=LIMITS)
            file.seek(0)
            frames = read_video_frames(
                file,
                start_s=0.0,
                duration_s=float(WHOLE_S),
                clip_size=SIDE,
                sync_size=SIDE,
                limits=LIMITS,
            )
    except MediaError as exc:
        return Outcome(kind, source, refused=str(exc), error=type(exc).__name__)
    whole_s = Fraction(frames.duration_s).limit_denominator(1_000_000)
    return Outcome(
        kind,
        source,
        read=tuple(_sentence(one) for one in (*declared.warnings, *frames.warnings)),
        clip=frames.clip,
        sync=frames.sync,
        covered_s=frames.duration_s,
        section=muxed(path, out, kind.off_keyframe_s, kind.section_s, source),
        whole=muxed(path, out, Fraction(0), whole_s, source),
    )


def muxed(path: Path, out: Path, start_s: Fraction, duration_s: Fraction, source: Facts | None) -> Muxed:
    """Mux a section of a file with a tone; the result stays at `out`."""
    tone = (TONE * np.sin(0.1 * np.arange(round(duration_s * RATE_HZ)))).astype(np.float32)
    try:
        with path.open("rb") as file:
            result = _mux(file, tone, out, start_s, duration_s)
    except MediaError as exc:
        return Muxed(refused=str(exc), error=type(exc).__name__)
    facts, complaints = _facts_and_complaints(out)
    found = (
        differences(source, facts, start_s=start_s, duration_s=duration_s, reencoded=result.reencoded)
        if source is not None
        else []
    )
    if fault := _sound_fault(out, float(duration_s)):
        found.append(Difference("sound", "the tone over the section", fault))
    if complaints and not (source is not None and source.damaged):
        found.append(Difference("complaints", (), tuple(complaints)))
    sentences = tuple(_sentence(one) for one in result.warnings)
    return Muxed(
        container=result.format, reencoded=result.reencoded, warnings=sentences, facts=facts, differences=tuple(found)
    )


def _sound_fault(path: Path, duration_s: float) -> str | None:
    """Return what is wrong with the tone: it has to begin at once, and to last as long as the section."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="flt", layout="mono", rate=RATE_HZ)
        frames = [part for frame in container.decode(stream) for part in resampler.resample(frame)]
        starts_s = float(frames[0].time or 0.0) if frames else 0.0
        sound = np.concatenate([frame.to_ndarray()[0] for frame in frames]) if frames else np.zeros(0, np.float32)
    loud = np.flatnonzero(np.abs(sound) > TONE / 2)
    if len(loud) == 0:
        return "silent"
    first_s, last_s = starts_s + loud[0] / RATE_HZ, starts_s + loud[-1] / RATE_HZ
    if abs(first_s) > SOUND_TOLERANCE_S or abs(last_s - duration_s) > SOUND_TOLERANCE_S:
        return f"from {first_s:.3f} s to {last_s:.3f} s of {duration_s:.3f} s"
    return None


def _facts_and_complaints(path: Path) -> tuple[Facts, list[str]]:
    """Return what a file says, and the errors that FFmpeg reports on the way."""
    av.logging.set_level(av.logging.ERROR)
    try:
        with av.logging.Capture() as said, path.open("rb") as file:
            facts = facts_of(file)
    finally:
        av.logging.set_level(None)  # with encoders' threads, messages may block for ever
    return facts, sorted({f"{name}: {text.strip()}" for level, name, text in said if level <= av.logging.ERROR})


def _mux(file: Any, tone: np.ndarray, out: Path, start_s: Fraction, duration_s: Fraction) -> MuxResult:
    options = MuxOptions(start_s=float(start_s), duration_s=float(duration_s))
    return mux_video(file, Sound.mono(tone, RATE_HZ), out, options=options, limits=LIMITS)


def _still(kind: Kind, path: Path) -> Outcome:
    try:
        with path.open("rb") as file:
            picture = read_image(file, clip_size=SIDE, limits=LIMITS)
    except MediaError as exc:
        return Outcome(kind, None, refused=str(exc), error=type(exc).__name__)
    warnings = tuple(_sentence(one) for one in getattr(picture, "warnings", ()))
    return Outcome(kind, None, read=warnings, clip=picture.clip)


def _sentence(warning: Any) -> str:
    return str(getattr(warning, "text", warning))
