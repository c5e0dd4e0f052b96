"""Results get names of their own, and what the user should know of a request is said before it runs."""

from __future__ import annotations

import errno
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from mmaudio_model import local_run
from mmaudio_model.errors import MediaTooLargeError, OutputNotWritableError
from mmaudio_model.local_run import (
    GenerationOptions,
    ResultOptions,
    WrittenFiles,
    check_writable,
    prepare_video,
    read_request,
    request_warnings,
    write_result,
)
from mmaudio_model.media.media_warning import WarningCode
from mmaudio_model.media.probe import probe_video
from mmaudio_model.result_sounds import SoundOptions
from mmaudio_model.variants import get_variant
from tests.unit.mmaudio_model.media.videos import SOURCE_HZ, number_in, regular, write_video

TINY = get_variant("tiny_16k")
SILENCE = np.zeros(16_000, dtype=np.float32)
TONE = (0.1 * np.sin(np.arange(16_000) / 5)).astype(np.float32)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """One second of video."""
    path = tmp_path / "input" / "rain.mp4"
    path.parent.mkdir()
    write_video(path, regular(25, 25))
    return path


def write(folder: Path, **options: Any) -> list[str]:
    result: WrittenFiles = write_result(folder, "rain", SILENCE, TINY, **options)
    return [path.name for path in result.paths]


def test_a_later_result_gets_a_number(tmp_path: Path) -> None:
    assert [write(tmp_path) for _ in range(3)] == [["rain.flac"], ["rain-2.flac"], ["rain-3.flac"]]


def test_sound_and_video_share_their_number(tmp_path: Path, video: Path) -> None:
    (tmp_path / "rain.flac").touch()
    (tmp_path / "rain-2.mp4").touch()

    assert write(tmp_path, video=video, duration_s=1.0) == ["rain-3.flac", "rain-3.mp4"]
    assert not (tmp_path / "rain-2.flac").exists()


def test_several_takes_are_always_numbered_and_use_free_numbers(tmp_path: Path) -> None:
    assert [write(tmp_path, take=take) for take in (1, 2)] == [["rain-1.flac"], ["rain-2.flac"]]
    assert [write(tmp_path, take=take) for take in (1, 2)] == [["rain-3.flac"], ["rain-4.flac"]]


def test_earlier_results_are_replaced_on_request(tmp_path: Path, video: Path) -> None:
    for name in ("rain.flac", "rain.mp4"):
        (tmp_path / name).write_bytes(b"earlier")

    assert write(tmp_path, video=video, duration_s=1.0, overwrite=True) == ["rain.flac", "rain.mp4"]
    assert b"earlier" not in {(tmp_path / name).read_bytes() for name in ("rain.flac", "rain.mp4")}


def test_the_input_beside_the_results_is_never_replaced(video: Path) -> None:
    before = video.read_bytes()

    assert write(video.parent, video=video, duration_s=1.0) == ["rain-2.flac", "rain-2.mp4"]
    assert video.read_bytes() == before


def test_a_link_to_nothing_is_not_a_free_name(tmp_path: Path) -> None:
    (tmp_path / "rain.flac").symlink_to(tmp_path / "gone")

    assert write(tmp_path) == ["rain-2.flac"]
    assert not (tmp_path / "gone").exists()


def test_an_interruption_while_files_are_named_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def press_ctrl_c(*_: object) -> Path:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_can_be_made_is_writable_and_not_made(tmp_path: Path) -> None:
    check_writable(tmp_path)
    check_writable(tmp_path / "new" / "deep")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("given", ["file", "file/folder"])
def test_a_file_in_the_way_of_the_output_is_refused(tmp_path: Path, given: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputNotWritableError, match=r"file is a file, not a folder\.$"):
        check_writable(tmp_path / given)


@pytest.mark.parametrize("code", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_folder_that_takes_no_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(**_: object) -> None:
        raise OSError(code, "no")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(OutputNotWritableError, match=f"^Cannot write to {tmp_path}: no.$"):
        check_writable(tmp_path)


def warnings_of(video: Path | None, duration_s: float | None, **options: Any) -> tuple[str, ...]:
    request = read_request(TINY, GenerationOptions(**options), video=video, image=None, duration_s=duration_s)
    return request_warnings(request, duration_s, video=video)


def test_a_video_shorter_than_requested_is_a_warning(video: Path) -> None:
    assert warnings_of(video, 5.0) == ("The video has 1.00 s of the requested 5 s; the sound is as long.",)
    assert warnings_of(video, 1.0) == ()
    assert warnings_of(video, None) == ()


def test_a_video_longer_than_the_variant_allows_is_a_warning(video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_run, "probe_video", lambda *args: replace(probe_video(*args), duration_s=95.0))

    assert warnings_of(video, None) == ("Only the first 1 s of the video's 95.00 s are used.",)


def test_a_section_that_starts_later_is_read_and_muxed(tmp_path: Path, video: Path) -> None:
    request = read_request(TINY, GenerationOptions(), video=video, image=None, duration_s=0.5, start_s=0.4)
    assert request.video is not None
    assert number_in(request.video.sync[0]) == 10

    source = prepare_video(video, ResultOptions(container="mkv"), start_s=0.4, duration_s=0.5)
    written = write_result(tmp_path / "out", "rain", TONE[:8000], TINY, source=source)
    assert [path.name for path in written.paths] == ["rain.flac", "rain.mkv"]
    assert any("re-encoded" in warning.text for warning in source.warnings)
    with av.open(str(tmp_path / "out" / "rain.mkv")) as container:
        first = next(container.decode(video=0))
    assert number_in(first.to_ndarray(format="rgb24")) == 10


@pytest.mark.parametrize(
    ("wanted", "files"),
    [
        ("effect", ["rain-effect.flac", "rain.mp4"]),
        ("mix", ["rain-mix.flac", "rain.mp4"]),
        ("both", ["rain-effect.flac", "rain-mix.flac", "rain.mp4"]),
    ],
)
def test_effect_and_mix_have_names_that_say_so(tmp_path: Path, wanted: Any, files: list[str]) -> None:
    sound = np.random.default_rng(1).uniform(-0.1, 0.1, SOURCE_HZ).astype(np.float32)
    video = write_video(tmp_path / "v.mp4", regular(25, 25), sound=sound)
    options = ResultOptions(sounds=SoundOptions(mixes=True), audio_files=wanted)
    written = write_result(tmp_path / "out", "rain", TONE, TINY, video=video, duration_s=1.0, options=options)

    assert [path.name for path in written.paths] == files
    assert written.warnings == ()
    again = write_result(tmp_path / "out", "rain", TONE, TINY, video=video, duration_s=1.0, options=options)
    assert [path.name for path in again.paths] == [name.replace("rain", "rain-2", 1) for name in files]


def test_a_video_without_sound_is_said_before_the_model_runs(video: Path) -> None:
    source = prepare_video(video, ResultOptions(sounds=SoundOptions(mixes=True)), duration_s=1.0)
    assert [warning.code for warning in source.warnings] == [WarningCode.ORIGINAL_AUDIO_MISSING]


def test_a_picture_that_needs_too_much_memory_is_an_error_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_large(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(local_run, "read_image", too_large)
    (tmp_path / "p.png").touch()
    with pytest.raises(MediaTooLargeError, match="more memory than this machine has"):
        read_request(TINY, GenerationOptions(), video=None, image=tmp_path / "p.png", duration_s=1.0)


def test_a_text_of_more_than_75_tokens_is_a_warning() -> None:
    long = "rain " * 80

    assert warnings_of(None, 1.0, prompt=long, negative_prompt=long) == (
        "The prompt was truncated to its first 75 tokens.",
        "The negative prompt was truncated to its first 75 tokens.",
    )
