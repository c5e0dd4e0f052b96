"""Training clips from a folder of videos with captions: each video is cut into clips of one length.

Every video is scanned first, at a few pixels per frame, so that videos without sound, too short or damaged are reported
before hours of processing. The list of clips is saved beside them, so a resumed preparation makes the same clips in the
same order.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np

from mmaudio_model.errors import MediaError, TrainingDataError
from mmaudio_model.media.frames import VideoFrames, read_video_frames
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.sound import read_sound
from mmaudio_model.training.data.captions import beside, read_captions
from mmaudio_model.training.data.clip import ClipShape, TrainingClip

SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts"})
FOUND = "found.json"
LOOK_SIZE = 8
"""Side in pixels of the frames decoded while scanning."""
MISSING_S = 0.1
"""A clip may end this much early: its last frame is repeated and its sound is padded with silence."""


@dataclass(frozen=True)
class Stretch:
    """A section of a video that becomes a clip."""

    file: str
    start_s: float
    captions: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.file}@{self.start_s:g}"


@dataclass(frozen=True)
class LeftOut:
    """A video, or a section of one, that was skipped, and the reason."""

    file: str
    start_s: float
    why: str


@dataclass(frozen=True)
class Found:
    """The clips of a folder and what was skipped."""

    stretches: tuple[Stretch, ...]
    left_out: tuple[LeftOut, ...]

    @property
    def names(self) -> list[str]:
        return [stretch.name for stretch in self.stretches]

    @property
    def without_captions(self) -> int:
        return sum(not stretch.captions for stretch in self.stretches)


@dataclass(frozen=True)
class FolderClips:
    """Callable that reads a clip by its section's name; picklable."""

    folder: Path
    shape: ClipShape
    stretches: dict[str, Stretch]
    limits: MediaLimits

    @classmethod
    def of(cls, folder: Path, shape: ClipShape, found: Found, limits: MediaLimits) -> FolderClips:
        return cls(folder, shape, {stretch.name: stretch for stretch in found.stretches}, limits)

    def __call__(self, name: str) -> TrainingClip:
        stretch = self.stretches[name]
        try:
            waveform = _sound(self.folder / stretch.file, stretch.start_s, self.shape, self.limits)
            frames = _frames(self.folder / stretch.file, stretch.start_s, self.shape, self.limits)
        except (MediaError, OSError) as exc:
            raise TrainingDataError(
                f"{stretch.file} was readable during the scan and is not any more: {exc} Restore it, or delete "
                "the clips folder to start again."
            ) from exc
        return TrainingClip(
            name,
            _filled(waveform, self.shape.samples),
            _repeated(frames.clip, self.shape.clip_count),
            _repeated(frames.sync, self.shape.sync_count),
            stretch.captions,
        )


def find_clips(
    folder: Path,
    shape: ClipShape,
    *,
    limits: MediaLimits,
    processes: int = 1,
    on_video: Callable[[int, int], None] = lambda _done, _all: None,
) -> Found:
    """Scan all videos below a folder, sorted by name.

    Args:
        on_video: called with (videos scanned, videos in total).

    Raises:
        TrainingDataError: there is no video, none is usable, or the captions cannot be parsed.
    """
    if not folder.is_dir():
        raise TrainingDataError(f"Got {folder}, which is not a folder; give a folder of videos.")
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not files:
        raise TrainingDataError(f"Got {folder}, which contains no video ({', '.join(sorted(SUFFIXES))}).")
    told = read_captions(folder)
    captions = {file: told.get(file, ()) + beside(folder / file) for file in files}
    stretches: list[Stretch] = []
    left_out: list[LeftOut] = []
    # Spawned: a forked child of a process that uses torch's threads can hang.
    with ProcessPoolExecutor(max(1, processes), mp_context=get_context("spawn")) as pool:
        look = partial(look_through, folder, shape, limits)
        for done, (file, (starts, bad)) in enumerate(zip(files, pool.map(look, files), strict=True), 1):
            stretches += [Stretch(file, start_s, captions[file]) for start_s in starts]
            left_out += bad
            on_video(done, len(files))
    if not stretches:
        raise TrainingDataError(
            f"None of the {len(files)} videos in {folder} is usable. The first: {left_out[0].file}: {left_out[0].why}"
        )
    return Found(tuple(stretches), tuple(left_out))


def find_once(clips: Path, search: Callable[[], Found]) -> Found:
    """Return the scan result saved in `clips` by an earlier run, or scan now and save it there."""
    path = clips / FOUND
    if path.exists():
        content = json.loads(path.read_text())
        return Found(
            tuple(Stretch(**{**each, "captions": tuple(each["captions"])}) for each in content["stretches"]),
            tuple(LeftOut(**each) for each in content["left_out"]),
        )
    found = search()
    clips.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    draft.replace(path)
    return found


def look_through(folder: Path, shape: ClipShape, limits: MediaLimits, file: str) -> tuple[list[float], list[LeftOut]]:
    """Return the start times of the usable sections of a video, in seconds, and what was skipped."""
    small = ClipShape(shape.duration_s, shape.sample_rate_hz, LOOK_SIZE, LOOK_SIZE)
    starts: list[float] = []
    bad: list[LeftOut] = []
    start_s = 0.0
    while True:
        path = folder / file
        try:
            # Sound first: it is quick to read, and most unusable videos have none.
            heard_s = len(_sound(path, start_s, small, limits)) / shape.sample_rate_hz
            if heard_s < shape.duration_s - MISSING_S:
                if not (starts or bad):
                    bad.append(LeftOut(file, start_s, _too_short("sound", heard_s, shape)))
                return starts, bad
            frames = _frames(path, start_s, small, limits)
            if frames.duration_s < shape.duration_s - MISSING_S:
                bad.append(LeftOut(file, start_s, _too_short("picture", frames.duration_s, shape)))
            elif frames.warnings:
                bad.append(LeftOut(file, start_s, frames.warnings[0]))
            else:
                starts.append(start_s)
        except (MediaError, OSError) as exc:
            bad.append(LeftOut(file, start_s, str(exc)))
            return starts, bad
        start_s += shape.duration_s


def _too_short(what: str, seconds: float, shape: ClipShape) -> str:
    return f"The {what} lasts {seconds:.2f} s; a clip needs {shape.duration_s:g} s."


def _sound(path: Path, start_s: float, shape: ClipShape, limits: MediaLimits) -> np.ndarray:
    with path.open("rb") as file:
        return read_sound(
            file,
            start_s=start_s,
            duration_s=shape.duration_s,
            sample_rate_hz=shape.sample_rate_hz,
            limits=limits,
        )


def _frames(path: Path, start_s: float, shape: ClipShape, limits: MediaLimits) -> VideoFrames:
    with path.open("rb") as file:
        return read_video_frames(
            file,
            start_s=start_s,
            duration_s=shape.duration_s,
            clip_size=shape.clip_size,
            sync_size=shape.sync_size,
            limits=limits,
        )


def _filled(waveform: np.ndarray, samples: int) -> np.ndarray:
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def _repeated(frames: np.ndarray, count: int) -> np.ndarray:
    return frames[np.minimum(np.arange(count), len(frames) - 1)]
