"""`mmaudio submit` of one input, and `mmaudio retry`: what they send, print and save."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from mmaudio_client.cli.exit_codes import ExitCode
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    SOUND,
    ScriptedServer,
    artifact_document,
    job_answer,
    job_document,
    problem,
    sound,
    upload_answer,
)

WARNING = {"code": "untrained", "message": "The model is untrained."}


def test_submit_prints_each_stage_once_and_the_saved_path(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    succeeded = {"warnings": [WARNING]}
    server.answers = [job_answer(), job_answer(), job_answer("running"), job_answer("succeeded", **succeeded), sound()]
    result = mmaudio("submit", "--prompt", "rain", "--output", str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'rain.flac'}\n")
    assert result.stderr.splitlines() == [
        f"{JOB_ID}: queued",
        f"{JOB_ID}: sample",
        f"{JOB_ID}: succeeded",
        "Warning: The model is untrained.",
    ]


def test_submit_sends_the_options_under_the_names_of_the_api(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer()]
    options = "--prompt rain --start 1 --duration 4 --seed 7 --no-mux --queue-ttl 60 --metadata a=b=c --metadata d="
    mmaudio("submit", "s3://bucket/clip.mp4", *options.split(), "--deliver-to", "s3://sounds/", "--no-wait")
    assert json.loads(server.requests[0].content) == {
        "video": "s3://bucket/clip.mp4",
        "prompt": "rain",
        "start_s": 1.0,
        "duration_s": 4.0,
        "seed": 7,
        "mux": False,
        "queue_ttl_s": 60,
        "metadata": {"a": "b=c", "d": ""},
        "deliver_to": "s3://sounds/",
    }


def test_submit_sends_what_the_sounds_and_the_video_shall_be(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer()]
    options = (
        "--original-audio mix --duck-db 9 --audio-files both --channels 2 --sample-rate 48000 --no-keep-tracks "
        "--container mov"
    )
    mmaudio("submit", "s3://bucket/clip.mp4", *options.split(), "--no-wait")
    assert json.loads(server.requests[0].content) == {
        "video": "s3://bucket/clip.mp4",
        "original_audio": "mix",
        "duck_db": 9.0,
        "audio_files": "both",
        "channels": 2,
        "sample_rate_hz": 48_000,
        "keep_tracks": False,
        "video_container": "mov",
    }


@pytest.mark.parametrize("source", ["s3://bucket/clip.mp4", "https://example.org/clip.mp4", "upl_1"])
def test_submit_leaves_what_is_no_file_to_the_server(mmaudio: Command, server: ScriptedServer, source: str) -> None:
    server.answers = [job_answer()]
    mmaudio("submit", source, "--no-wait")
    assert json.loads(server.requests[0].content)["video"] == source


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        (["clip.mp4"], "video"),
        (["clip.unknown"], "video"),
        (["photo.JPG"], "image"),
        (["--image", "clip.unknown"], "image"),
    ],
)
def test_submit_uploads_a_file_as_what_its_suffix_says(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path, arguments: list[str], field: str
) -> None:
    (tmp_path / arguments[-1]).write_bytes(b"video")
    server.answers = [upload_answer(), httpx.Response(204), job_answer()]
    assert mmaudio("submit", *arguments, "--no-wait").stdout == f"{JOB_ID}\n"
    assert server.requests[1].content == b"video"
    assert json.loads(server.requests[2].content)[field] == "upl_1"


def test_results_are_named_after_the_file_that_was_sent(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"video")
    files = [artifact_document(), artifact_document("video.mp4", kind="video", format="mp4")]
    server.answers = [upload_answer(), httpx.Response(204), job_answer("succeeded", artifacts=files), sound(), sound()]
    assert mmaudio("submit", "walk.mp4").stdout == "walk.flac\nwalk-sound.mp4\n"
    assert (tmp_path / "walk.mp4").read_bytes() == b"video"
    assert (tmp_path / "walk-sound.mp4").read_bytes() == SOUND


def test_submit_without_waiting_prints_the_id_or_the_job(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer(), job_answer()]
    assert mmaudio("submit", "--prompt", "x", "--no-wait").stdout == f"{JOB_ID}\n"
    assert json.loads(mmaudio("submit", "--prompt", "x", "--no-wait", "--json").stdout) == job_document()


def test_submit_as_json_prints_one_document_with_the_saved_files(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [job_answer(), job_answer("succeeded"), sound()]
    result = mmaudio("submit", "--prompt", "x", "--json", "--output", str(tmp_path))
    assert json.loads(result.stdout) == {
        **job_document("succeeded"),
        "saved_files": [str(tmp_path / "rain.flac")],
    }
    assert (result.stderr, (tmp_path / "rain.flac").read_bytes()) == ("", SOUND)


@pytest.mark.parametrize("command", [["submit", "--prompt", "x"], ["watch", JOB_ID], ["retry", JOB_ID]])
@pytest.mark.parametrize(
    ("end", "code", "sentence"),
    [
        ("failed", ExitCode.FAILED, "Error: The job failed: The file is empty."),
        ("canceled", ExitCode.CANCELED, f"Error: Job {JOB_ID} was canceled."),
    ],
)
def test_a_job_that_does_not_succeed_has_its_own_exit_code(
    mmaudio: Command, server: ScriptedServer, command: list[str], end: str, code: ExitCode, sentence: str
) -> None:
    before = [job_answer("failed")] if command[0] == "retry" else []
    server.answers = [*before, job_answer(), job_answer(end)]
    result = mmaudio(*command)
    assert (result.exit_code, result.stdout, result.stderr.splitlines()[-1]) == (code, "", sentence)


def test_retry_makes_a_new_job_and_saves_its_files(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [job_answer("failed"), job_answer(id="job_" + "2" * 32), job_answer("succeeded"), sound()]
    result = mmaudio("retry", JOB_ID, "--output", "out")
    assert (result.exit_code, result.stdout) == (0, "out/rain.flac\n")
    assert server.asked[1].endswith(f"/v1/jobs/{JOB_ID}/retry")
    assert (tmp_path / "out" / "rain.flac").read_bytes() == SOUND


def test_retry_without_waiting_prints_the_new_id(mmaudio: Command, server: ScriptedServer) -> None:
    new = "job_" + "2" * 32
    server.answers = [job_answer("failed"), job_answer(id=new)]
    assert mmaudio("retry", "1" * 32, "--no-wait").stdout == f"{new}\n"


def test_retry_of_a_running_job_is_refused(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("running"), problem(409, "job_not_ended", "The job has not ended.")]
    result = mmaudio("retry", JOB_ID)
    assert (result.exit_code, result.stderr) == (ExitCode.REFUSED, "Error: The job has not ended.\n")


@pytest.mark.parametrize("command", [["submit", "clip.mp4"], ["retry", JOB_ID], ["download", JOB_ID]])
@pytest.mark.parametrize("output", ["file", "file/folder", "/proc/nobody-can-write-here"])
def test_a_folder_that_cannot_be_written_is_found_before_anything_is_sent(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path, command: list[str], output: str
) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"video")
    (tmp_path / "file").write_text("x")
    result = mmaudio(*command, "--output", output)
    assert (result.exit_code, server.requests) == (ExitCode.USAGE, [])
    assert output in result.stderr
    assert (tmp_path / "file").read_text() == "x"


def test_the_output_folder_is_created(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [job_answer("succeeded"), sound()]
    mmaudio("submit", "--prompt", "x", "--output", "new/folder")
    assert (tmp_path / "new" / "folder" / "rain.flac").read_bytes() == SOUND


def test_an_output_folder_that_would_stay_empty_is_a_mistake(mmaudio: Command, server: ScriptedServer) -> None:
    result = mmaudio("submit", "--prompt", "x", "--no-wait", "--output", "sounds")
    assert (result.exit_code, server.requests) == (ExitCode.USAGE, [])
    assert "--output has no effect" in result.stderr


@pytest.mark.parametrize(
    "arguments", [[], ["--prompt", ""], ["--prompt", "  "], ["--negative-prompt", "x"], ["--seed", "1"]]
)
def test_nothing_to_make_a_sound_from_is_a_mistake(
    mmaudio: Command, server: ScriptedServer, arguments: list[str]
) -> None:
    result = mmaudio("submit", *arguments)
    assert (result.exit_code, server.requests) == (ExitCode.USAGE, [])
    assert "Nothing to make a sound from" in result.stderr


@pytest.mark.parametrize("again", ["walk.mp4", "./walk.mp4"])
def test_an_input_that_is_given_twice_makes_one_job_and_the_command_says_so(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path, again: str
) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"video")
    server.answers = [upload_answer(), httpx.Response(204), job_answer()]
    result = mmaudio("submit", "walk.mp4", again, "--no-wait")
    assert (result.exit_code, result.stdout) == (0, f"{JOB_ID}\n")
    assert result.stderr == "walk.mp4 is given more than once; it makes one job.\n"


def test_text_that_is_no_unicode_is_found_before_the_upload(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"video")
    result = mmaudio("submit", "walk.mp4", "--metadata", "a=\udcff")
    assert (result.exit_code, server.requests) == (ExitCode.USAGE, [])
    assert "not valid Unicode" in result.stderr


def test_a_refusal_names_each_field_once(mmaudio: Command, server: ScriptedServer) -> None:
    wrong = [{"field": "duration_s", "message": "Input should be greater than 0"}]
    server.answers = [problem(422, "invalid_request", "Not allowed: duration_s.", errors=wrong)]
    result = mmaudio("submit", "--prompt", "x", "--duration", "-1")
    assert (result.exit_code, result.stderr) == (ExitCode.REFUSED, "Error: duration_s: must be greater than 0\n")


def test_a_prompt_that_is_no_text_is_a_sentence(mmaudio: Command, server: ScriptedServer) -> None:
    result = mmaudio("submit", "--prompt", "caf\udce9")
    assert (result.exit_code, server.requests) == (ExitCode.USAGE, [])
    assert "not valid Unicode" in result.stderr
