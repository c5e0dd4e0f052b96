"""The `mmaudio` command: what it prints where, and the status it leaves with."""

from __future__ import annotations

import functools
import io
import json
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from mmaudio_client import Client
from mmaudio_client.cli import main
from mmaudio_client.cli.session import EXIT_INTERRUPTED, follow
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    SOUND,
    ScriptedServer,
    artifact_document,
    job,
    job_answer,
    job_document,
    page,
    problem,
    upload_document,
)

Command = Callable[..., Result]
WARNING = {"code": "untrained", "message": "The model is untrained."}


def run(*arguments: str) -> Result:
    """Run the command; an error that it does not tell in a sentence fails the test."""
    result = CliRunner().invoke(main, list(arguments))
    assert isinstance(result.exception, SystemExit | None), result.exception
    assert "Traceback" not in result.output
    return result


@pytest.fixture
def mmaudio(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> Command:
    """The command, talking to the scripted server."""
    client = functools.partial(Client, transport=httpx.MockTransport(server), sleep=server.naps.append)
    monkeypatch.setattr("mmaudio_client.cli.session.Client", client)
    return run


def sound() -> httpx.Response:
    return httpx.Response(200, content=SOUND)


def test_submit_tells_each_stage_once_and_prints_only_the_saved_path(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    running = {"warnings": [WARNING]}
    server.answers = [job_answer(), job_answer(), job_answer("running"), job_answer("succeeded", **running), sound()]
    result = mmaudio("submit", "--prompt", "rain", "--output", str(tmp_path))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / JOB_ID}-audio.flac\n")
    assert result.stderr.splitlines() == [
        f"{JOB_ID}: queued",
        f"{JOB_ID}: sample",
        f"{JOB_ID}: succeeded",
        "Note: The model is untrained.",
    ]


def test_submit_sends_the_options_under_the_names_of_the_api(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer()]
    options = "--prompt rain --start 1 --duration 4 --seed 7 --no-mux --queue-ttl 60 --metadata a=b=c --metadata d="
    mmaudio("submit", "s3://bucket/clip.mp4", *options.split(), "--no-wait")
    assert json.loads(server.requests[0].content) == {
        "video": "s3://bucket/clip.mp4",
        "prompt": "rain",
        "negative_prompt": "",
        "start_s": 1.0,
        "duration_s": 4.0,
        "seed": 7,
        "mux": False,
        "queue_ttl_s": 60,
        "metadata": {"a": "b=c", "d": ""},
    }


@pytest.mark.parametrize("source", ["s3://bucket/clip.mp4", "https://example.org/clip.mp4", "upl_1"])
def test_submit_leaves_what_is_no_file_to_the_server(mmaudio: Command, server: ScriptedServer, source: str) -> None:
    server.answers = [job_answer()]
    mmaudio("submit", source, "--no-wait")
    assert json.loads(server.requests[0].content)["video"] == source


def test_submit_uploads_a_file(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(b"video")
    server.answers = [httpx.Response(201, json=upload_document()), httpx.Response(204), job_answer()]
    assert mmaudio("submit", str(tmp_path / "clip.mp4"), "--no-wait").stdout == f"{JOB_ID}\n"
    assert server.requests[1].content == b"video"
    assert json.loads(server.requests[2].content)["video"] == "upl_1"


def test_submit_without_waiting_prints_the_id_or_the_job(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer(), job_answer()]
    assert mmaudio("submit", "--prompt", "x", "--no-wait").stdout == f"{JOB_ID}\n"
    assert json.loads(mmaudio("submit", "--prompt", "x", "--no-wait", "--json").stdout) == job_document()


def test_submit_as_json_prints_nothing_else_to_the_standard_output(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [job_answer(), job_answer("succeeded"), sound()]
    result = mmaudio("submit", "--prompt", "x", "--json", "--output", str(tmp_path))
    assert json.loads(result.stdout)["state"] == "succeeded"
    assert f"{JOB_ID}-audio.flac" in result.stderr
    assert (tmp_path / f"{JOB_ID}-audio.flac").read_bytes() == SOUND


@pytest.mark.parametrize("command", ["submit", "watch"])
@pytest.mark.parametrize(
    ("end", "sentence"), [("failed", "The job failed: The file is empty."), ("canceled", "The job was canceled.")]
)
def test_a_job_without_a_sound_leaves_status_one_and_a_sentence(
    mmaudio: Command, server: ScriptedServer, command: str, end: str, sentence: str
) -> None:
    server.answers = [job_answer(), job_answer(end)]
    result = mmaudio(command, *(["--prompt", "x"] if command == "submit" else [JOB_ID]))
    assert (result.exit_code, result.stdout, result.stderr.splitlines()[-1]) == (1, "", sentence)


def test_watch_ends_with_the_job_and_says_how_to_save_it(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("running"), httpx.Response(503), job_answer("succeeded")]
    result = mmaudio("watch", JOB_ID)
    assert result.exit_code == 0
    assert result.stdout == f"{JOB_ID}: succeeded. Save its files with: mmaudio download {JOB_ID}\n"


def test_who_interrupts_watching_is_told_that_the_job_goes_on(mmaudio: Command, server: ScriptedServer) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.answers = [job_answer("running"), interrupt]
    result = mmaudio("watch", JOB_ID)
    assert result.exit_code == EXIT_INTERRUPTED
    assert f"The job goes on. See it with: mmaudio watch {JOB_ID}" in result.stderr


@pytest.mark.parametrize("forced", [False, True])
def test_outside_a_terminal_there_is_no_progress_bar(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, forced: bool
) -> None:
    if forced:
        monkeypatch.setenv("FORCE_COLOR", "1")
    server.answers = [job_answer("running"), job_answer("succeeded")]
    result = mmaudio("watch", JOB_ID)
    assert result.stderr == f"{JOB_ID}: sample\n{JOB_ID}: succeeded\n"


def test_on_a_terminal_there_is_a_progress_bar(server: ScriptedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    server.answers = [job_answer("succeeded")]
    assert follow(server.client(), job("running")).state == "succeeded"
    last_frame = terminal.getvalue().rpartition("succeeded")[2]
    assert "━" in last_frame
    assert "100%" in last_frame


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ("queued", "queued (place 3) (0%, attempt 0)"),
        ("running", "sample 10/25 (50%, attempt 1)"),
        ("succeeded", "succeeded (100%, attempt 1)"),
        ("canceled", "canceled (100%, attempt 1)"),
    ],
)
def test_status_shows_a_job_in_a_line(mmaudio: Command, server: ScriptedServer, state: str, line: str) -> None:
    server.answers = [job_answer(state)]
    result = mmaudio("status", JOB_ID)
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, f"{JOB_ID}: {line}")


def test_status_shows_errors_warnings_and_files(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("failed", warnings=[WARNING]), job_answer("succeeded")]
    assert mmaudio("status", JOB_ID).stdout.splitlines()[1:] == [
        "  The file is empty.",
        "  note: The model is untrained.",
    ]
    assert mmaudio("status", JOB_ID).stdout.splitlines()[1:] == [f"  audio.flac  8.00 s  {len(SOUND)} bytes"]


def test_status_as_json_is_the_document_of_the_server(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("failed", colour="red")]
    assert json.loads(mmaudio("status", JOB_ID, "--json").stdout) == job_document("failed", colour="red")


def test_list_shows_a_row_a_job_and_takes_prompts_literally(mmaudio: Command, server: ScriptedServer) -> None:
    prompt = {"prompt": "a [red]ball[/red]", "variant": "tiny_16k", "num_steps": 25}
    server.answers = [page(job_document("failed", request=prompt), job_document("canceled", id="job_b"))]
    result = mmaudio("list", "--state", "failed", "--variant", "tiny_16k")
    rows = result.stdout.splitlines()
    assert (result.exit_code, len(rows)) == (0, 3)
    assert rows[1].split()[:3] == [JOB_ID, "failed", "tiny_16k"]
    assert "a [red]ball[/red]" in rows[1]
    assert rows[2].split()[:2] == ["job_b", "canceled"]
    assert dict(server.requests[0].url.params) == {"limit": "20", "state": "failed", "variant": "tiny_16k"}


def test_list_asks_for_as_many_pages_as_it_shows(mmaudio: Command, server: ScriptedServer) -> None:
    first = page(*(job_document(id=f"job_{n}") for n in range(200)), following="/v1/jobs?cursor=1")
    server.answers = [first, page(*(job_document(id=f"job_{n}") for n in range(200, 400)), following="/v1/jobs?c=2")]
    rows = mmaudio("list", "--limit", "250").stdout.splitlines()
    assert (len(rows), rows[-1].split()[0]) == (251, "job_249")
    assert server.requests[0].url.params["limit"] == "200"


@pytest.mark.parametrize(("state", "word"), [("canceled", "canceled"), ("running", "stopping")])
def test_cancel_says_what_became_of_the_job(mmaudio: Command, server: ScriptedServer, state: str, word: str) -> None:
    server.answers = [job_answer("running"), job_answer(state)]
    result = mmaudio("cancel", JOB_ID)
    assert (result.exit_code, result.stdout) == (0, f"{JOB_ID}: {word}\n")


def test_cancel_of_an_ended_job_is_a_sentence(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("succeeded"), problem(409, "job_ended", "The job has ended: succeeded.")]
    result = mmaudio("cancel", JOB_ID)
    assert (result.exit_code, result.stderr) == (1, "Error: The job has ended: succeeded.\n")


def test_download_saves_the_files_and_prints_their_paths(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [job_answer("succeeded"), sound()]
    result = mmaudio("download", JOB_ID, "--output", str(tmp_path / "new"))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/new/{JOB_ID}-audio.flac\n")
    assert (tmp_path / "new" / f"{JOB_ID}-audio.flac").read_bytes() == SOUND


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (lambda: [job_answer("running")], "has no files: it is sample 10/25."),
        (lambda: [job_answer("succeeded", artifacts=[artifact_document(url=None)])], "has expired on the server."),
        (lambda: [job_answer("succeeded"), httpx.Response(200, content=b"x")], "came damaged"),
    ],
)
def test_download_without_a_file_is_a_sentence(
    mmaudio: Command,
    server: ScriptedServer,
    tmp_path: Path,
    answers: Callable[[], list[httpx.Response]],
    sentence: str,
) -> None:
    server.answers = [*answers()]
    result = mmaudio("download", JOB_ID, "--output", str(tmp_path))
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_sentence(mmaudio: Command, server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    server.answers = [job_answer("succeeded")]
    result = mmaudio("download", JOB_ID, "--output", str(tmp_path / "file" / "folder"))
    assert (result.exit_code, result.stderr) == (1, f"Error: Not a directory: {tmp_path}/file/folder\n")


@pytest.mark.parametrize("command", ["status", "cancel", "download", "watch"])
def test_an_unknown_job_is_a_sentence(mmaudio: Command, server: ScriptedServer, command: str) -> None:
    server.answers = [problem(404, "job_not_found", "There is no job x.")]
    result = mmaudio(command, "x")
    assert (result.exit_code, result.stdout, result.stderr) == (1, "", "Error: There is no job x.\n")


def test_a_server_that_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmaudio_client.cli.session.Client", functools.partial(Client, sleep=lambda _: None))
    with socket.socket() as taken:  # bound and not listening: nobody else can answer there
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for arguments in (["list"], ["status", "x"], ["submit", "--prompt", "x"]):
            result = run(*arguments, "--api-url", url)
            assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (1, "", 1)
            assert result.stderr.startswith(f"Error: no connection to {url}")


@pytest.mark.parametrize("address", ["localhost:8000", "http://a:b"])
def test_an_address_that_is_none_is_a_sentence(address: str) -> None:
    result = run("list", "--api-url", address)
    assert (result.exit_code, result.stderr.startswith("Error: Got the server address")) == (1, True)


def test_address_and_key_may_come_from_the_environment(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MMAUDIO_API_URL", "http://other.example")
    monkeypatch.setenv("MMAUDIO_API_KEY", "k")
    server.answers = [job_answer()]
    mmaudio("status", JOB_ID)
    assert server.asked == [f"GET http://other.example/v1/jobs/{JOB_ID}"]
    assert server.requests[0].headers["Authorization"] == "Bearer k"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["submit", "missing.mp4"], "There is no file missing.mp4."),
        (["submit", "--metadata", "novalue"], "Got --metadata 'novalue'; give KEY=VALUE."),
        (["submit", "--metadata", "=x"], "Got --metadata '=x'; give KEY=VALUE."),
        (["list", "--limit", "0"], "'--limit'"),
        (["list", "--state", "asleep"], "'--state'"),
        (["status"], "'JOB_ID'"),
        (["sing"], "No such command 'sing'"),
    ],
)
def test_a_mistake_on_the_command_line_is_status_two_and_sends_nothing(
    mmaudio: Command, server: ScriptedServer, arguments: list[str], sentence: str
) -> None:
    result = mmaudio(*arguments)
    assert (result.exit_code, server.requests) == (2, [])
    assert sentence in result.stderr
