"""Training clips from a folder of videos: what is taken, what is left out and said, and whose captions are whose."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

from mmaudio_model.errors import TrainingDataError
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.training.data.captions import LINES, TABLE
from mmaudio_model.training.data.clip import ClipShape
from mmaudio_model.training.data.folder_clips import FolderClips, ScannedFolder, scan_folder, scan_once
from tests.unit.mmaudio_model.media.videos import SOURCE_HZ, number_in, regular, write_video

SHAPE = ClipShape(duration_s=1.0, sample_rate_hz=16_000, clip_size=32, sync_size=32)
LIMITS = MediaLimits()
MEDIA = Path(__file__).parents[3] / "data" / "media"


def tone(seconds: float, hz: float = 440.0) -> np.ndarray:
    times = np.arange(round(seconds * SOURCE_HZ)) / SOURCE_HZ
    return (0.5 * np.sin(2 * np.pi * hz * times)).astype(np.float32)


def rising(seconds: float) -> np.ndarray:
    """Return a tone that is as loud, in tenths, as seconds have passed."""
    return tone(seconds) * np.floor(np.arange(round(seconds * SOURCE_HZ)) / SOURCE_HZ).astype(np.float32) / 10


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    (folder / "more").mkdir()
    write_video(folder / "long.mp4", regular(85, 25), sound=rising(3.4))
    write_video(folder / "more" / "second.mkv", regular(25, 25), container="matroska", sound=tone(1.0))
    write_video(folder / "short.mp4", regular(15, 25), sound=tone(0.6))
    write_video(folder / "short_picture.mp4", regular(10, 25), sound=tone(1.5))
    write_video(folder / "silent.mp4", regular(30, 25))
    shutil.copy(MEDIA / "bad" / "truncated_no_moov.mp4", folder / "broken.mp4")
    (folder / "notes.txt").write_text("no video\n")
    (folder / "long.txt").write_text("a tone that grows\n\n  louder and louder \n", encoding="utf-8")
    (folder / TABLE).write_text("file,caption\nmore/second.mkv,a tone\nlong.mp4,from the table\n")
    (folder / LINES).write_text('{"file": "more/second.mkv", "captions": ["beep", "a steady beep"]}\n')
    return folder


@pytest.fixture(scope="module")
def found(videos: Path) -> ScannedFolder:
    return scan_folder(videos, SHAPE, limits=LIMITS)


def test_long_videos_give_several_clips_and_useless_ones_are_named(found: ScannedFolder) -> None:
    assert found.names == ["long.mp4@0", "long.mp4@1", "long.mp4@2", "more/second.mkv@0"]
    assert {each.file: each.reason.split(" (")[0] for each in found.skipped} == {
        "broken.mp4": "The file is truncated or damaged: its index",
        "short.mp4": "The sound lasts 0.60 s; a clip needs 1 s.",
        "short_picture.mp4": "The picture lasts 0.40 s; a clip needs 1 s.",
        "silent.mp4": "The video has no sound.",
    }


def test_captions_come_from_the_table_the_lines_and_the_file_beside(found: ScannedFolder) -> None:
    captions = {section.file: section.captions for section in found.sections}
    assert captions == {
        "long.mp4": ("from the table", "a tone that grows", "louder and louder"),
        "more/second.mkv": ("a tone", "beep", "a steady beep"),
    }
    assert found.without_captions == 0


def test_a_clip_has_the_sound_and_the_frames_of_its_own_stretch(videos: Path, found: ScannedFolder) -> None:
    make = pickle.loads(pickle.dumps(FolderClips.of(videos, SHAPE, found, LIMITS)))
    for second in range(3):
        clip = make(f"long.mp4@{second}")
        assert clip.waveform.shape == (16_000,)
        assert clip.waveform.dtype == np.float32
        # AAC smears the borders.
        loudness = float(np.sqrt(2 * np.mean(clip.waveform[1600:-1600] ** 2)))
        assert loudness == pytest.approx(0.5 * second / 10, abs=0.005)
        assert clip.sync_frames.shape == (25, 32, 32, 3)
        assert clip.clip_frames.shape == (8, 32, 32, 3)
        assert [number_in(frame) for frame in clip.sync_frames[::8]] == [25 * second + step for step in (0, 8, 16, 24)]
        assert clip.captions[0] == "from the table"


def test_what_was_found_once_is_what_a_later_preparation_goes_on_with(tmp_path: Path, found: ScannedFolder) -> None:
    assert scan_once(tmp_path / "clips", lambda: found) == found

    def never() -> ScannedFolder:
        raise AssertionError("searched again")

    assert scan_once(tmp_path / "clips", never) == found


def test_a_video_that_vanished_meanwhile_is_said(videos: Path, found: ScannedFolder, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"long\.mp4 was readable during the scan and is not any more"):
        FolderClips.of(tmp_path, SHAPE, found, LIMITS)("long.mp4@0")


def test_a_folder_without_use_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="which is not a folder"):
        scan_folder(tmp_path / "nowhere", SHAPE, limits=LIMITS)
    with pytest.raises(TrainingDataError, match="which contains no video"):
        scan_folder(tmp_path, SHAPE, limits=LIMITS)
    shutil.copy(MEDIA / "real" / "flower_av1_noaudio.mp4", tmp_path / "flower.mp4")
    with pytest.raises(TrainingDataError, match=r"None of the 1 videos .* flower\.mp4: The video has no sound\."):
        scan_folder(tmp_path, SHAPE, limits=LIMITS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (TABLE, "video,text\na.mp4,rain\n", "needs `file` and `caption`"),
        (TABLE, "file,caption\na.mp4,\n", "Line 2 of .* lacks a file or a caption"),
        (TABLE, "file,caption\nb.mp4,rain\n", "Line 2 of .* names 'b.mp4', which is not in"),
        (LINES, '{"file": "a.mp4"}\n', "Line 1 of .* is not like"),
        (LINES, "rain\n", "Line 1 of .* is not like"),
        (LINES, '\n{"file": "a.mp4", "captions": "rain"}\n', "Line 2 of .*: `file` and each caption must be text"),
        (LINES, json.dumps({"file": 3, "caption": "rain"}), "must be text"),
        ("a.txt", b"r\xe9", "is not UTF-8 text"),
    ],
)
def test_captions_that_cannot_be_understood_are_said(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    (tmp_path / "a.mp4").write_bytes(b"")
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(TrainingDataError, match=message):
        scan_folder(tmp_path, SHAPE, limits=LIMITS)
