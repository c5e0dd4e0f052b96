"""Training clips from a folder of videos with captions: each video is cut into clips of one length.

Every video is scanned first, at a few pixels per frame, so that videos without sound, too short or damaged are reported
before hours of processing. The list of clips is saved beside them, so a resumed preparation makes the same clips in the
same order.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mmaudio_model.errors import MediaError, TrainingDataError
from mmaudio_model.media.frames import VideoFrames, read_video_frames
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.sound import read_sound
from mmaudio_model.training.data.captions import caption_file, read_captions
from mmaudio_model.training.data.clip import ClipShape, TrainingClip
from mmaudio_model.training.data.pool import map_in_processes

SUFFIXES = frozenset({".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".ts"})
SCAN_RESULT = "scan.json"
SCAN_SIZE = 8
"""Side in pixels of the frames decoded while scanning."""
MISSING_S = 0.1
"""A clip may end this much early: its last frame is repeated and its sound is padded with silence."""


@dataclass(frozen=True)
class Section:
    """A section of a video that becomes a clip."""

    file: str
    start_s: float
    captions: tuple[str, ...]

    @property
    def name(self) -> str:
        return f"{self.file}@{self.start_s:g}"


@dataclass(frozen=True)
class SkippedVideo:
    """A video, or a section of one, that was skipped, and the reason."""

    file: str
    start_s: float
    reason: str


@dataclass(frozen=True)
class ScannedFolder:
    """The clips of a folder and what was skipped."""

    sections: tuple[Section, ...]
    skipped: tuple[SkippedVideo, ...]

    @property
    def names(self) -> list[str]:
        return [section.name for section in self.sections]

    @property
    def without_captions(self) -> int:
        return sum(not section.captions for section in self.sections)


@dataclass(frozen=True)
class FolderClips:
    """Callable that reads a clip by its section's name; picklable."""

    folder: Path
    shape: ClipShape
    sections: dict[str, Section]
    limits: MediaLimits

    @classmethod
    def of(cls, folder: Path, shape: ClipShape, found: ScannedFolder, limits: MediaLimits) -> FolderClips:
        return cls(folder, shape, {section.name: section for section in found.sections}, limits)

    def __call__(self, name: str) -> TrainingClip:
        section = self.sections[name]
        try:
            waveform = _sound(self.folder / section.file, section.start_s, self.shape, self.limits)
            frames = _frames(self.folder / section.file, section.start_s, self.shape, self.limits)
        except (MediaError, OSError) as exc:
            raise TrainingDataError(
                f"{section.file} was readable during the scan and is not any more: {exc} Restore it, or delete "
                "the clips folder to start again."
            ) from exc
        return TrainingClip(
            name,
            _pad_sound(waveform, self.shape.samples),
            _pad_frames(frames.clip, self.shape.clip_count),
            _pad_frames(frames.sync, self.shape.sync_count),
            section.captions,
        )


def scan_folder(
    folder: Path,
    shape: ClipShape,
    *,
    limits: MediaLimits,
    processes: int = 1,
    on_video: Callable[[int, int], None] = lambda _done, _all: None,
) -> ScannedFolder:
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
    listed = read_captions(folder)
    captions = {file: listed.get(file, ()) + caption_file(folder / file) for file in files}
    sections: list[Section] = []
    skipped: list[SkippedVideo] = []
    results = map_in_processes(partial(scan_video, folder, shape, limits), files, processes=processes)
    for done, (file, (starts, bad)) in enumerate(zip(files, results, strict=True), 1):
        sections += [Section(file, start_s, captions[file]) for start_s in starts]
        skipped += bad
        on_video(done, len(files))
    if not sections:
        raise TrainingDataError(
            f"None of the {len(files)} videos in {folder} is usable. The first: {skipped[0].file}: {skipped[0].reason}"
        )
    return ScannedFolder(tuple(sections), tuple(skipped))


def scan_once(clips: Path, search: Callable[[], ScannedFolder]) -> ScannedFolder:
    """Return the scan result saved in `clips` by an earlier run, or scan now and save it there."""
    path = clips / SCAN_RESULT
    if path.exists():
        content = json.loads(path.read_text())
        return ScannedFolder(
            tuple(Section(**{**each, "captions": tuple(each["captions"])}) for each in content["sections"]),
            tuple(SkippedVideo(**each) for each in content["skipped"]),
        )
    found = search()
    clips.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".part")
    draft.write_text(json.dumps(asdict(found), indent=1, ensure_ascii=False))
    draft.replace(path)
    return found


def scan_video(
    folder: Path, shape: ClipShape, limits: MediaLimits, file: str
) -> tuple[list[float], list[SkippedVideo]]:
    """Return the start times of the usable sections of a video, in seconds, and what was skipped."""
    small = ClipShape(shape.duration_s, shape.sample_rate_hz, SCAN_SIZE, SCAN_SIZE)
    starts: list[float] = []
    bad: list[SkippedVideo] = []
    start_s = 0.0
    while True:
        path = folder / file
        try:
            # Sound first: it is quick to read, and most unusable videos have none.
            sound_s = len(_sound(path, start_s, small, limits)) / shape.sample_rate_hz
            if sound_s < shape.duration_s - MISSING_S:
                if not (starts or bad):
                    bad.append(SkippedVideo(file, start_s, _too_short("sound", sound_s, shape)))
                return starts, bad
            frames = _frames(path, start_s, small, limits)
            if frames.duration_s < shape.duration_s - MISSING_S:
                bad.append(SkippedVideo(file, start_s, _too_short("picture", frames.duration_s, shape)))
            elif damage := [one.text for one in frames.warnings if one.code == WarningCode.VIDEO_DAMAGED]:
                bad.append(SkippedVideo(file, start_s, damage[0]))
            else:
                starts.append(start_s)
        except (MediaError, OSError) as exc:
            bad.append(SkippedVideo(file, start_s, str(exc)))
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


def _pad_sound(waveform: np.ndarray, samples: int) -> np.ndarray:
    return np.pad(waveform[:samples], (0, max(0, samples - len(waveform))))


def _pad_frames(frames: np.ndarray, count: int) -> np.ndarray:
    return frames[np.minimum(np.arange(count), len(frames) - 1)]
