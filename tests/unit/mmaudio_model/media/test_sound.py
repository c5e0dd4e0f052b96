"""The sound of a section: in time with the picture, wherever the section begins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.sound import read_sound
from tests.unit.mmaudio_model.media.videos import LIMITS, SOURCE_HZ, regular, write_video

RATE = 16_000
CLICKS_S = (0.5, 3.25, 8.0, 11.5)


def clicks(seconds: float) -> np.ndarray:
    sound = np.zeros(round(seconds * SOURCE_HZ), np.float32)
    for time_s in CLICKS_S:
        start = round(time_s * SOURCE_HZ)
        sound[start : start + 480] = 0.8 * np.sin(np.arange(480) * 0.5)
    return sound


@pytest.fixture(scope="module", params=["mp4", "matroska", "mpegts"])
def video(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sound") / "clicks.video"
    return write_video(path, regular(120, 10), container=request.param, rate=10, sound=clicks(12.0))


def heard(path: Path, start_s: float, duration_s: float) -> np.ndarray:
    with path.open("rb") as file:
        return read_sound(file, start_s=start_s, duration_s=duration_s, sample_rate_hz=RATE, limits=LIMITS)


@pytest.mark.parametrize(("start_s", "duration_s"), [(0.0, 12.0), (3.0, 1.0), (7.5, 1.0), (11.0, 1.0)])
def test_what_is_heard_is_where_it_is_in_the_video(video: Path, start_s: float, duration_s: float) -> None:
    sound = heard(video, start_s, duration_s)
    assert sound.dtype == np.float32
    assert len(sound) == pytest.approx(duration_s * RATE, abs=0.05 * RATE)
    loud = np.flatnonzero(np.abs(sound) > 0.3) / RATE + start_s
    expected = [time_s for time_s in CLICKS_S if start_s <= time_s < start_s + duration_s]
    groups = np.split(loud, np.flatnonzero(np.diff(loud) > 0.1) + 1)
    assert [group[0] for group in groups] == pytest.approx(expected, abs=0.03)


def test_behind_the_end_there_is_nothing(video: Path) -> None:
    assert len(heard(video, 11.0, 4.0)) == pytest.approx(RATE, abs=0.05 * RATE)
    assert len(heard(video, 20.0, 1.0)) == 0


def test_a_video_without_sound_is_said(tmp_path: Path) -> None:
    with pytest.raises(MediaInvalidError, match="has no sound"):
        heard(write_video(tmp_path / "silent.mp4", regular(10, 10)), 0.0, 1.0)
