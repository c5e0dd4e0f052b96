"""Names of results: after the input, safe as a path, numbered where a name is taken."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest

from mmaudio_client import Artifact
from mmaudio_client.result_names import (
    LONGEST_STEM_BYTES,
    numbered_names,
    stem_of_address,
    stem_of_filename,
    stem_of_prompt,
)
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    SOUND,
    ScriptedServer,
    artifact_document,
    job,
    problem,
    sound,
    upload_answer,
)


def take(number: int, kind: str = "audio") -> Artifact:
    name = f"audio-{number}.flac" if kind == "audio" else f"video-{number}.mp4"
    return Artifact.from_json(artifact_document(name, kind=kind, take=number))


def first_sets(count: int, *artifacts: Artifact) -> list[tuple[str, ...]]:
    return list(islice(numbered_names("walk", artifacts), count))


def test_one_take_has_no_number_until_its_name_is_taken() -> None:
    assert first_sets(3, take(0), take(0, "video")) == [
        ("walk.flac", "walk-sound.mp4"),
        ("walk-2.flac", "walk-2-sound.mp4"),
        ("walk-3.flac", "walk-3-sound.mp4"),
    ]


def test_several_takes_are_numbered_from_one() -> None:
    assert first_sets(2, take(0), take(0, "video"), take(1), take(1, "video")) == [
        ("walk-1.flac", "walk-1-sound.mp4", "walk-2.flac", "walk-2-sound.mp4"),
        ("walk-2.flac", "walk-2-sound.mp4", "walk-3.flac", "walk-3-sound.mp4"),
    ]


def test_sounds_with_and_without_the_original_one_have_names_that_say_so() -> None:
    effect, mix = (
        Artifact.from_json(artifact_document(f"audio-{what}.flac", kind="audio")) for what in ("effect", "mix")
    )
    video = Artifact.from_json(artifact_document("video.mov", kind="video"))
    assert first_sets(2, effect, mix, video) == [
        ("walk-effect.flac", "walk-mix.flac", "walk-sound.mov"),
        ("walk-2-effect.flac", "walk-2-mix.flac", "walk-2-sound.mov"),
    ]


@pytest.mark.parametrize(
    ("filename", "stem"),
    [("CON.mp4", "_CON"), ("lpt1.tar.gz", "_lpt1.tar"), ("console.mp4", "console"), ("gpj\u202e4pm.exe", "gpj-4pm")],
)
def test_names_that_windows_refuses_or_that_deceive_are_changed(filename: str, stem: str) -> None:
    assert stem_of_filename(filename) == stem


def test_two_files_of_one_take_have_two_names() -> None:
    stem = Artifact.from_json(artifact_document("stem.flac", kind="stem"))
    assert first_sets(1, take(0), take(0), stem) == [("walk.flac", "walk-2.flac", "walk-stem.flac")]


@pytest.mark.parametrize(
    ("filename", "stem"),
    [
        ("walk.mp4", "walk"),
        ("a clip.tar.gz", "a clip.tar"),
        ("Übung 雨.mov", "Übung 雨"),
        ("/in/walk.mp4", "walk"),
        ("C:\\clips\\walk.mp4", "walk"),
        ("../../walk.mp4", "walk"),
        (".mp4", "mp4"),
        ("..", ""),
        ("...", ""),
        ("", ""),
        ("a:b?.mp4", "a-b-"),
        ("a\nb\x1b[31m.mp4", "a-b-[31m"),
        ("x" * 300 + ".mp4", "x" * LONGEST_STEM_BYTES),
        ("雨" * 100, "雨" * (LONGEST_STEM_BYTES // 3)),
    ],
)
def test_a_stem_is_safe_as_a_file_name(filename: str, stem: str) -> None:
    assert stem_of_filename(filename) == stem


@pytest.mark.parametrize(
    ("address", "stem"),
    [
        ("s3://videos/in/walk%20.mp4", "walk%20"),
        ("s3://videos/in/walk#1?.mp4", "walk#1-"),
        ("s3://videos/in/", "in"),
        ("https://example.org/a/my%20walk.mp4?token=x", "my walk"),
        ("https://example.org/%2e%2e%2fwalk.mp4", "walk"),
        ("https://example.org/", ""),
    ],
)
def test_a_stem_is_the_last_part_of_an_address(address: str, stem: str) -> None:
    assert stem_of_address(address) == stem


@pytest.mark.parametrize(
    ("prompt", "stem"),
    [("rain on a tin roof", "rain-on-a-tin-roof"), ("../x", "x"), ("雨, loud!", "雨-loud"), ("!?", ""), ("", "")],
)
def test_a_prompt_becomes_words_with_dashes(prompt: str, stem: str) -> None:
    assert stem_of_prompt(prompt) == stem
    assert len(stem_of_prompt("rain " * 100)) <= 80


@pytest.mark.parametrize(
    ("request_", "upload", "name"),
    [
        ({"video": "s3://videos/in/walk.mp4"}, None, "walk.flac"),
        ({"image": "https://example.org/photo.png"}, None, "photo.flac"),
        ({"video": "upl_1", "prompt": "rain"}, upload_answer(filename="walk.mp4"), "walk.flac"),
        ({"video": "upl_1", "prompt": "rain"}, upload_answer(filename="upload"), "rain.flac"),
        ({"video": "upl_1", "prompt": "rain"}, problem(404, "upload_not_found"), "rain.flac"),
        ({"prompt": "?!"}, None, f"{JOB_ID}.flac"),
    ],
)
def test_a_download_by_id_is_named_after_what_the_server_knows_of_the_input(
    server: ScriptedServer, tmp_path: Path, request_: dict[str, Any], upload: httpx.Response | None, name: str
) -> None:
    server.answers = [*([upload] if upload is not None else []), sound()]
    (path,) = server.client().download(job("succeeded", request=request_), tmp_path)
    assert (path, path.read_bytes()) == (tmp_path / name, SOUND)


def test_a_name_of_ones_own_is_taken(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [sound()]
    asked = job("succeeded", request={"video": "upl_1"})
    assert server.client().download(asked, tmp_path, name="../my walk.mp4") == (tmp_path / "my walk.flac",)


def test_takes_do_not_mix_with_those_of_an_earlier_job(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "rain-2.flac").write_bytes(b"an earlier take")
    files = [artifact_document(f"audio-{n}.flac", take=n) for n in range(2)]
    server.answers = [sound(), sound()]
    paths = server.client().download(job("succeeded", artifacts=files), tmp_path)
    assert [path.name for path in paths] == ["rain-3.flac", "rain-4.flac"]
