"""Training clips from a folder of videos with captions: each video is cut into stretches of one length.

Every video is looked through first, with pictures of a few pixels: what has no sound, is too short or is damaged is
left out, and said, before hours of work begin. What was found is kept beside the clips, so that a preparation that
goes on later goes on with the same clips in the same order.
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
"""Side in pixels of the pictures that are only looked at to see whether they are there."""
MISSING_S = 0.1
"""A stretch may end this much early: its last frame is repeated, its sound ends in silence."""


@dataclass(frozen=True)
class Stretch:
    """A part of a video that becomes a clip."""

    file: str
    start_s: float
    captions: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.file}@{self.start_s:g}"


@dataclass(frozen=True)
class LeftOut:
    """A video, or a part of one, that does not become a clip, and why."""

    file: str
    start_s: float
    why: str


@dataclass(frozen=True)
class Found:
    """What lies in a folder."""

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
    """Makes the clip of a stretch's name; picklable."""

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
                f"{stretch.file} could be read before and cannot now: {exc} Put it back, or delete the folder of the "
                "clips to begin anew."
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
    """Look through all videos below a folder, in order of their names.

    Args:
        on_video: told how many videos were looked through, and of how many.

    Raises:
        TrainingDataError: there is no video, none can be used, or the captions cannot be understood.
    """
    if not folder.is_dir():
        raise TrainingDataError(f"Got {folder}, which is no folder; give one with videos in it.")
    files = sorted(
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file()
    )
    if not files:
        raise TrainingDataError(f"Got {folder}, in which no video lies ({', '.join(sorted(SUFFIXES))}).")
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
            f"None of the {len(files)} videos in {folder} can be used. The first: {left_out[0].file}: {left_out[0].why}"
        )
    return Found(tuple(stretches), tuple(left_out))


def find_once(clips: Path, search: Callable[[], Found]) -> Found:
    """Return what a former preparation into `clips` found, or else search and keep it there."""
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
    """Return where the usable stretches of a video begin, in seconds, and what cannot be used."""
    small = ClipShape(shape.duration_s, shape.sample_rate_hz, LOOK_SIZE, LOOK_SIZE)
    starts: list[float] = []
    bad: list[LeftOut] = []
    start_s = 0.0
    while True:
        path = folder / file
        try:
            # Sound first: it is quick to read, and it is what most useless videos lack.
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
