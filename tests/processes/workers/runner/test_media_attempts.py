"""Jobs with a video: what is found out before the device works, which files come out, what is said."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.loudness import integrated_loudness
from mmaudio_model.media.source_facts import SourceFacts
from tests.processes.workers.runner.media_attempts import RATE_HZ, MediaAttempts, codes, names
from tests.unit.mmaudio_model.media.videos import SOURCE_HZ, regular, write_video


@pytest.fixture
def attempts(tmp_path: Path) -> Iterator[MediaAttempts]:
    made = MediaAttempts(tmp_path / "platform")
    yield made
    made.close()


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One second of video with a sound of its own."""
    times = np.arange(SOURCE_HZ) / SOURCE_HZ
    sound = (0.2 * np.sin(2 * np.pi * 1000 * times)).astype(np.float32)
    return write_video(tmp_path_factory.mktemp("v") / "walk.mp4", regular(25, 25), keyframe_every=5, sound=sound)


@pytest.fixture(scope="module")
def silent_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("v") / "walk.mp4", regular(25, 25), keyframe_every=5)


def facts(path: Path) -> tuple[int, int]:
    """Return channels and sample rate of the first sound of a file."""
    with av.open(str(path)) as container:
        context = container.streams.audio[0].codec_context
        return context.layout.nb_channels, context.sample_rate


def samples(path: Path) -> np.ndarray:
    """Return a sound, float32 (channels, samples)."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        resampler = av.AudioResampler(format="fltp", layout=stream.layout, rate=stream.rate)
        parts = [part.to_ndarray() for frame in container.decode(stream) for part in resampler.resample(frame)]
    return np.concatenate(parts, axis=1)


def test_a_video_gets_its_sound_and_everything_is_read_before_the_device_works(
    attempts: MediaAttempts, silent_video: Path
) -> None:
    output = attempts.run(silent_video, num_samples=2)

    assert names(output) == ["audio-1.flac", "video-1.mp4", "audio-2.flac", "video-2.mp4"]
    assert attempts.calls == ["facts", "frames", "plan", "mux", "mux"]
    assert codes(output) == []
    assert facts(attempts.file(output, "audio-1.flac")) == (1, RATE_HZ)
    assert facts(attempts.file(output, "video-2.mp4")) == (1, RATE_HZ)


def test_what_cannot_be_muxed_is_refused_before_the_device_works(
    attempts: MediaAttempts, silent_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise MediaInvalidError("It cannot be muxed.")

    monkeypatch.setattr(attempts.sandbox, "plan", refuse)
    with pytest.raises(MediaInvalidError, match="cannot be muxed"):
        attempts.run(silent_video)
    assert attempts.model.batches == []

    assert names(attempts.run(silent_video, mux=False)) == ["audio.flac"]
    assert names(attempts.run(silent_video, mux=False, audio_format="wav")) == ["audio.wav"]


def test_the_effect_has_the_channels_and_the_rate_that_were_asked_for(
    attempts: MediaAttempts, silent_video: Path
) -> None:
    output = attempts.run(silent_video, channels=2, sample_rate_hz=48_000)

    assert facts(attempts.file(output, "audio.flac")) == (2, 48_000)
    assert facts(attempts.file(output, "video.mp4")) == (2, 48_000)
    left, right = samples(attempts.file(output, "audio.flac"))
    assert np.array_equal(left, right)
    assert len(left) == 48_000


def test_effect_and_mix_are_told_apart_by_name(attempts: MediaAttempts, video: Path) -> None:
    output = attempts.run(video, original_audio="mix", audio_files="both", loudness_lufs=-20.0, audio_format="wav")

    assert names(output) == ["audio-effect.wav", "audio-mix.wav", "video.mp4"]
    assert attempts.calls == ["facts", "frames", "plan", "original_sound", "mux"]
    effect, mix = (attempts.file(output, f"audio-{name}.wav") for name in ("effect", "mix"))
    assert (facts(effect), facts(mix)) == ((1, RATE_HZ), (1, SOURCE_HZ))
    for path, rate in ((effect, RATE_HZ), (mix, SOURCE_HZ), (attempts.file(output, "video.mp4"), SOURCE_HZ)):
        assert integrated_loudness(samples(path), rate) == pytest.approx(-20, abs=0.3)
    spectrum = np.abs(np.fft.rfft(samples(mix)[0][:SOURCE_HZ]))
    assert min(spectrum[440], spectrum[1000]) > 20 * np.median(spectrum)


@pytest.mark.parametrize(
    ("asked", "expected"), [("effect", ["audio-effect.flac", "video.mp4"]), ("mix", ["audio-mix.flac", "video.mp4"])]
)
def test_one_of_effect_and_mix_can_be_asked_for(
    attempts: MediaAttempts, video: Path, asked: str, expected: list[str]
) -> None:
    assert names(attempts.run(video, original_audio="mix", audio_files=asked)) == expected


def test_a_video_without_sound_to_mix_in_is_said_once(attempts: MediaAttempts, silent_video: Path) -> None:
    output = attempts.run(silent_video, original_audio="mix", audio_files="mix", num_samples=3)

    assert codes(output) == ["original_audio_missing"]
    assert names(output)[:2] == ["audio-mix-1.flac", "video-1.mp4"]


def test_a_mix_that_no_file_has_is_said_and_not_made(attempts: MediaAttempts, video: Path) -> None:
    output = attempts.run(video, original_audio="mix", mux=False)

    assert (names(output), codes(output)) == (["audio-effect.flac"], ["original_audio_unused"])
    assert "original_sound" not in attempts.calls


def test_a_second_job_reads_no_frames_and_says_the_same(
    attempts: MediaAttempts, silent_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = attempts.run(silent_video, duration_s=4.0)
    attempts.calls.clear()
    second = attempts.run(silent_video, duration_s=4.0)

    assert attempts.calls == ["plan", "mux"]
    assert first.warnings == second.warnings
    assert codes(second) == ["video_shorter"]


def test_a_video_that_goes_on_is_said_unless_a_duration_was_asked_for(
    attempts: MediaAttempts, silent_video: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = attempts.sandbox.source_facts

    def an_hour(path: Path, **arguments: Any) -> SourceFacts:
        found = longer(path, **arguments)
        assert found is not None
        return replace(found, duration_s=3600.0)

    monkeypatch.setattr(attempts.sandbox, "source_facts", an_hour)
    run = attempts.attempt(silent_video)
    object.__setattr__(run.variant, "max_duration_s", 1.0)
    try:
        output = run.run()
        again = attempts.attempt(silent_video, duration_s=1.0).run()
    finally:
        object.__setattr__(run.variant, "max_duration_s", 30.0)
    assert [w["message"] for w in output.warnings if w["code"] == "video_longer"] == [
        "Only the first 1 s of the video's 3600.00 s are used."
    ]
    assert codes(again) == []


def test_a_file_that_is_cut_off_is_said_also_where_its_features_are_cached(
    attempts: MediaAttempts, tmp_path: Path
) -> None:
    whole = write_video(tmp_path / "whole.mkv", regular(75, 25), container="matroska", keyframe_every=5).read_bytes()
    (tmp_path / "half.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    first = attempts.run(tmp_path / "half.mkv")
    attempts.calls.clear()
    second = attempts.run(tmp_path / "half.mkv")

    assert "video_cut_off" in codes(first)
    assert first.warnings == second.warnings
    assert "frames" not in attempts.calls


def test_a_start_off_a_key_frame_is_said_under_its_code(attempts: MediaAttempts, silent_video: Path) -> None:
    output = attempts.run(silent_video, start_s=0.5, num_samples=2)

    assert set(codes(output)) <= {"video_reencoded", "picture_changed"}
    assert len(output.warnings) == len({(one["code"], one["message"]) for one in output.warnings})


def test_a_nearly_silent_sound_is_said_under_its_code(attempts: MediaAttempts, silent_video: Path) -> None:
    attempts.model.level = 0.002
    assert codes(attempts.run(silent_video)) == ["near_silent"]


def test_the_container_can_be_chosen(attempts: MediaAttempts, silent_video: Path) -> None:
    output = attempts.run(silent_video, video_container="mkv")
    assert names(output) == ["audio.flac", "video.mkv"]
    assert output.artifacts[1].content_type == "video/x-matroska"


def test_a_picture_is_read_once_and_has_no_plan(attempts: MediaAttempts, tmp_path: Path) -> None:
    Image.new("RGB", (64, 64), (200, 10, 10)).save(tmp_path / "p.png")
    attempts.run(tmp_path / "p.png", kind="image", duration_s=1.0)
    attempts.run(tmp_path / "p.png", kind="image", duration_s=1.0)

    assert attempts.calls == ["image"]
