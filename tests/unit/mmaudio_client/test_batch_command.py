"""`mmaudio submit` of several files: a job each, results as they come, a summary, the worst exit code."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import httpx
import pytest

from mmaudio_client.cli.batch import Batch
from mmaudio_client.cli.exit_codes import ExitCode, worst
from mmaudio_client.cli.job_inputs import collect_inputs
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import (
    MORE_THAN_PATIENCE,
    SOUND,
    Answer,
    ScriptedServer,
    job_answer,
    problem,
    sound,
    upload_answer,
)

WARNING = {"code": "untrained", "message": "The model is untrained."}
FIRST, SECOND = "job_" + "a" * 32, "job_" + "b" * 32


def files(folder: Path, *names: str) -> None:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_bytes(f"bytes of {name}".encode())


def sent(job_id: str) -> list[Answer]:
    return [upload_answer(), httpx.Response(204), job_answer(id=job_id)]


def inputs_sent(server: ScriptedServer) -> list[str]:
    announced = [r for r in server.requests if r.method == "POST" and r.url.path == "/v1/uploads"]
    return [json.loads(request.content)["filename"] for request in announced]


def test_each_file_becomes_a_job_and_its_results_carry_its_name(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    files(tmp_path, "walk.mp4", "photo.png")
    server.answers = [
        *sent(FIRST),
        *sent(SECOND),
        job_answer("running", id=FIRST),
        job_answer("succeeded", id=SECOND, warnings=[WARNING]),
        sound(),
        job_answer("succeeded", id=FIRST, warnings=[WARNING]),
        sound(),
    ]
    result = mmaudio("submit", "walk.mp4", "photo.png", "--prompt", "rain", "--output", "out")
    assert (result.exit_code, result.stdout) == (0, "out/photo.flac\nout/walk.flac\n")
    assert [(tmp_path / "out" / name).read_bytes() for name in ("photo.flac", "walk.flac")] == [SOUND] * 2
    assert result.stderr.splitlines() == [
        f"walk.mp4: {FIRST}",
        f"photo.png: {SECOND}",
        "walk.mp4: sample",
        "Warning: photo.png: The model is untrained.",
        "2 inputs: 2 succeeded",
    ]
    requests = [json.loads(r.content) for r in server.requests if r.url.path == "/v1/jobs"]
    assert requests == [{"video": "upl_1", "prompt": "rain"}, {"image": "upl_1", "prompt": "rain"}]


def test_a_folder_stands_for_its_videos_and_images(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    clips = tmp_path / "clips"
    files(
        clips, "b.MOV", "a.mp4", "c.jpeg", "notes.txt", ".hidden.mp4", "a-sound.mp4", "a-2-sound.mp4", "fun-sound.mp4"
    )
    files(clips / "deeper", "d.mp4")
    server.answers = [answer for n in range(4) for answer in sent(f"job_{n}")]
    result = mmaudio("submit", "clips", "clips/a.mp4", "--no-wait")
    assert (result.exit_code, result.stdout) == (0, "job_0\njob_1\njob_2\njob_3\n")
    assert inputs_sent(server) == ["a.mp4", "b.MOV", "c.jpeg", "fun-sound.mp4"]
    assert result.stderr == "clips/a.mp4 is given more than once; it makes one job.\n4 inputs: 4 submitted\n"


@pytest.mark.parametrize(
    ("arguments", "sentences"),
    [
        (["a.mp4", "missing.mp4", "empty.mp4"], ["There is no file 'missing.mp4'", "'empty.mp4' is empty"]),
        (["a.mp4", "bare"], ["There is no video or image in the folder bare"]),
    ],
)
def test_all_files_are_looked_at_before_the_first_is_sent(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path, arguments: list[str], sentences: list[str]
) -> None:
    files(tmp_path, "a.mp4")
    (tmp_path / "empty.mp4").write_bytes(b"")
    files(tmp_path / "bare", "notes.txt")
    result = mmaudio("submit", *arguments)
    assert (result.exit_code, server.requests) == (ExitCode.USAGE, [])
    assert all(sentence in result.stderr for sentence in sentences)


def test_the_exit_code_is_that_of_the_worst_job(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    files(tmp_path, "a.mp4", "b.mp4", "c.mp4")
    too_large = problem(413, "too_large", "The file is too large.")
    server.answers = [
        *sent(FIRST),
        too_large,
        *sent(SECOND),
        job_answer("failed", id=FIRST),
        job_answer("succeeded", id=SECOND),
        sound(),
    ]
    result = mmaudio("submit", "a.mp4", "b.mp4", "c.mp4")
    assert (result.exit_code, result.stdout) == (ExitCode.REFUSED, "c.flac\n")
    assert "Error: b.mp4: The file is too large." in result.stderr
    assert "Error: a.mp4: The job failed: The file is empty." in result.stderr
    assert result.stderr.splitlines()[-1] == "3 inputs: 1 succeeded, 1 failed, 1 refused"


def test_a_field_that_is_refused_for_one_is_not_sent_for_the_others(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    files(tmp_path, "a.mp4", "b.mp4")
    wrong = problem(422, "invalid_request", "No.", errors=[{"field": "num_steps", "message": "at most 100"}])
    server.answers = [upload_answer(), httpx.Response(204), wrong]
    result = mmaudio("submit", "a.mp4", "b.mp4", "--num-steps", "1000")
    assert (inputs_sent(server), server.answers, result.exit_code) == (["a.mp4"], [], ExitCode.REFUSED)
    assert result.stderr.splitlines()[-1] == "2 inputs: 1 refused, 1 not submitted"


def test_a_server_that_goes_away_ends_the_batch(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    files(tmp_path, "a.mp4", "b.mp4")
    server.answers = [*sent(FIRST), *sent(SECOND), *[httpx.ConnectError("refused")] * MORE_THAN_PATIENCE]
    result = mmaudio("submit", "a.mp4", "b.mp4")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "Error: Cannot connect to http://127.0.0.1:8000: refused" in result.stderr
    assert result.stderr.splitlines()[-1] == "2 inputs: 2 unfinished (server unreachable)"


def test_as_json_each_job_is_a_line_and_so_is_each_error(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    files(tmp_path, "a.mp4", "b.mp4")
    server.answers = [
        *sent(FIRST),
        *sent(SECOND),
        job_answer("failed", id=FIRST),
        job_answer("succeeded", id=SECOND),
        sound(),
    ]
    result = mmaudio("submit", "a.mp4", "b.mp4", "--json")
    documents = [json.loads(line) for line in result.stdout.splitlines()]
    errors = [json.loads(line)["error"] for line in result.stderr.splitlines()]
    assert [(one["id"], one["state"], one["saved_files"]) for one in documents] == [
        (FIRST, "failed", []),
        (SECOND, "succeeded", ["b.flac"]),
    ]
    assert errors == [
        {"code": "media_invalid", "message": "The job failed: The file is empty.", "job_id": FIRST, "input": "a.mp4"}
    ]
    assert result.exit_code == ExitCode.FAILED


def test_beside_a_progress_bar_the_standard_output_holds_the_paths_alone(
    server: ScriptedServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    files(tmp_path, "a [x].mp4", "b.mp4")
    server.answers = [
        *sent(FIRST),
        *sent(SECOND),
        job_answer("running", id=FIRST),
        job_answer("failed", id=SECOND),
        job_answer("succeeded", id=FIRST),
        sound(),
    ]
    inputs = collect_inputs(["a [x].mp4", "b.mp4"], image=None)
    batch = Batch(server.client(), inputs, {"prompt": "rain"}, output=Path(), as_json=False)
    assert batch.run(no_wait=False) is ExitCode.FAILED
    assert capsys.readouterr().out == "a [x].flac\n"
    shown = terminal.getvalue()
    assert "━" in shown
    assert f"a [x].mp4: {FIRST}\n" in shown
    assert "a [x].mp4: sample" in shown  # square brackets are no markup


def test_ctrl_c_says_that_submitted_jobs_continue(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    files(tmp_path, "a.mp4", "b.mp4")
    server.answers = [*sent(FIRST), interrupt]
    result = mmaudio("submit", "a.mp4", "b.mp4")
    assert result.exit_code == ExitCode.INTERRUPTED
    assert "Jobs that were submitted (1) continue" in result.stderr


def test_the_worst_exit_code_is_chosen_whatever_the_order() -> None:
    assert worst([ExitCode.OK, ExitCode.CANCELED, ExitCode.FAILED]) is ExitCode.FAILED
    assert worst([ExitCode.REFUSED, ExitCode.UNREACHABLE, ExitCode.FAILED]) is ExitCode.UNREACHABLE
    assert worst([ExitCode.OK, ExitCode.OK]) is ExitCode.OK
