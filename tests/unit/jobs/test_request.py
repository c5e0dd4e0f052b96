"""Which requests are valid, and the errors of others."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from jobs.request import JobRequest, Priority

UPLOAD = "upl_" + "0" * 32


def test_only_a_prompt_is_text_to_audio_with_the_documented_defaults() -> None:
    request = JobRequest(prompt="rain")
    assert (request.num_steps, request.cfg_strength, request.num_samples) == (25, 4.5, 1)
    assert (request.audio_format, request.priority, request.wants_mux) == ("flac", Priority.NORMAL, False)


def test_a_video_is_muxed_by_default() -> None:
    assert JobRequest(video=UPLOAD).wants_mux
    assert not JobRequest(video=UPLOAD, mux=False).wants_mux


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "x" * 20_001}, "prompt"),
        ({"prompt": "a\x00b"}, "prompt"),
        ({"video": "file:///etc/passwd"}, "video"),
        ({"video": "http://example.org/a.mp4"}, "video"),
        ({"video": "https://user@example.org/a.mp4"}, "video"),
        ({"image": "https://127.1/a.png"}, "image"),
        ({"image": f"https://example.org/{'a' * 2048}"}, "image"),
        ({"video": f"s3://bucket/{'ü' * 600}"}, "video"),
        ({"video": "data:video/mp4,abc"}, "video"),
        ({"video": "data:video/mp4;base64,"}, "video"),
        ({"video": "data:no type;base64,QUJD"}, "video"),
        ({"video": f"data:video/mp4;base64,{'A' * 14_000_000}"}, "video"),
        ({"video": "upl_nothex"}, "video"),
        ({"video": "s3://Bad_Bucket/x"}, "video"),
        ({"num_steps": 0}, "num_steps"),
        ({"num_steps": 101}, "num_steps"),
        ({"num_steps": "25"}, "num_steps"),
        ({"num_steps": True}, "num_steps"),
        ({"duration_s": True}, "duration_s"),
        ({"duration_s": "4"}, "duration_s"),
        ({"cfg_strength": "4.5"}, "cfg_strength"),
        ({"loudness_lufs": "-20"}, "loudness_lufs"),
        ({"video": "s3://inbox/a\x00b"}, "video"),
        ({"metadata": {"a\x00": "x"}}, "metadata"),
        ({"cfg_strength": 20.1}, "cfg_strength"),
        ({"cfg_strength": float("nan")}, "cfg_strength"),
        ({"duration_s": 0}, "duration_s"),
        ({"duration_s": float("inf")}, "duration_s"),
        ({"num_samples": 9}, "num_samples"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**63}, "seed"),
        ({"audio_format": "aiff"}, "audio_format"),
        ({"channels": 3}, "channels"),
        ({"channels": True}, "channels"),
        ({"channels": "2"}, "channels"),
        ({"sample_rate_hz": 12_345}, "sample_rate_hz"),
        ({"sample_rate_hz": "48000"}, "sample_rate_hz"),
        ({"duck_db": -1}, "duck_db"),
        ({"duck_db": 61}, "duck_db"),
        ({"duck_db": "6"}, "duck_db"),
        ({"audio_files": "all"}, "audio_files"),
        ({"keep_tracks": "yes"}, "keep_tracks"),
        ({"keep_tracks": 1}, "keep_tracks"),
        ({"video_container": "avi"}, "video_container"),
        ({"priority": "urgent"}, "priority"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": {"k": "x" * 513}}, "metadata"),
        ({"metadata": {"k": 1}}, "metadata"),
        ({"webhook_url": "https://example.org"}, "webhook_url"),
        ({"deliver_to": "s3://bucket/prefix"}, "deliver_to"),
        ({"deliver_to": "s3://bucket"}, "deliver_to"),
        ({"deliver_to": "s3://bucket/a/../b/"}, "deliver_to"),
        ({"deliver_to": "s3://bucket//"}, "deliver_to"),
        ({"deliver_to": "https://bucket/prefix/"}, "deliver_to"),
    ],
)
def test_a_wrong_field_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobRequest(**fields)
    assert {str(error["loc"][0]) for error in caught.value.errors()} == {named}


@pytest.mark.parametrize(
    "fields",
    [
        {"video": UPLOAD, "image": UPLOAD},
        {"mux": True},
        {"original_audio": "mix"},
        {"start_s": 1.0},
        {"video": UPLOAD, "original_gain_db": -3},
    ],
)
def test_fields_that_do_not_go_together_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        JobRequest(**fields)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"video": UPLOAD, "duck_db": 6}, "duck_db"),
        ({"video": UPLOAD, "audio_files": "mix"}, "audio_files"),
        ({"video": UPLOAD, "audio_files": "both", "original_audio": "drop"}, "audio_files"),
        ({"video_container": "mov"}, "video_container"),
        ({"image": UPLOAD, "video_container": "webm"}, "video_container"),
        ({"video": UPLOAD, "mux": False, "video_container": "mkv"}, "video_container"),
        ({"audio_format": "mp3", "sample_rate_hz": 96_000}, "sample_rate_hz"),
        ({"audio_format": "opus", "sample_rate_hz": 44_100}, "sample_rate_hz"),
    ],
)
def test_the_field_that_does_not_fit_the_others_is_named(fields: dict[str, Any], named: str) -> None:
    with pytest.raises(ValidationError) as caught:
        JobRequest(**fields)
    (error,) = caught.value.errors()
    assert error["ctx"]["error"].field == named


def test_sounds_and_containers_can_be_asked_for() -> None:
    request = JobRequest(
        video=UPLOAD,
        original_audio="mix",
        duck_db=12,
        audio_files="both",
        channels=2,
        sample_rate_hz=48_000,
        keep_tracks=False,
        video_container="mkv",
    )
    assert JobRequest.model_validate(request.model_dump(mode="json")) == request
    plain = JobRequest(video=UPLOAD)
    assert (plain.channels, plain.sample_rate_hz, plain.audio_files, plain.keep_tracks, plain.video_container) == (
        (1, None, "effect", True, "auto")
    )


@pytest.mark.parametrize("key", ["a b.mp4", "ünï/çode.mp4", "100%+x.mp4", "line\nbreak.mp4"])
def test_odd_but_legal_object_keys_are_taken_as_they_are(key: str) -> None:
    assert JobRequest(video=f"s3://inbox/{key}").video == f"s3://inbox/{key}"


@pytest.mark.parametrize("output", ["s3://bucket/", "s3://bucket/a/", "s3://bucket/a b/ünï+%/"])
def test_a_bucket_or_a_folder_in_it_is_a_place_to_deliver_to(output: str) -> None:
    assert JobRequest(deliver_to=output).deliver_to == output
