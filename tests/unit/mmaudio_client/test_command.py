"""The `mmaudio` command: what it prints where, and the exit codes."""

from __future__ import annotations

import functools
import io
import json
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from rich.cells import cell_len

from mmaudio_client import Client
from mmaudio_client.cli.exit_codes import ExitCode
from mmaudio_client.cli.job_view import follow
from mmaudio_client.cli.list import HEADER, _created
from mmaudio_client.cli.table import print_rows
from tests.unit.mmaudio_client.command_runner import Command, run
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
    sound,
)

WARNING = {"code": "untrained", "message": "The model is untrained."}


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_watch_ends_with_the_job_and_says_how_to_save_it(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("running"), httpx.Response(503), job_answer("succeeded")]
    result = mmaudio("watch", JOB_ID)
    assert result.exit_code == 0
    assert result.stdout == f"{JOB_ID}: succeeded. Save its files with: mmaudio download {JOB_ID}\n"


def test_watch_as_json_prints_the_job_as_it_ended(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("running"), job_answer("failed")]
    result = mmaudio("watch", JOB_ID, "--json")
    assert (result.exit_code, json.loads(result.stdout)) == (ExitCode.FAILED, job_document("failed"))
    assert json.loads(result.stderr) == {
        "error": {"code": "media_invalid", "message": "The job failed: The file is empty.", "job_id": JOB_ID}
    }


def test_ctrl_c_while_watching_says_that_the_job_continues(mmaudio: Command, server: ScriptedServer) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.answers = [job_answer("running"), interrupt]
    result = mmaudio("watch", JOB_ID)
    assert result.exit_code == ExitCode.INTERRUPTED
    assert f"The job continues. Follow it: mmaudio watch {JOB_ID}" in result.stderr


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
        ("queued", "queued (position 3) (0%, attempt 0)"),
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
        "  prompt: rain",
        "  error: The file is empty. (media_invalid)",
        "  warning: The model is untrained.",
    ]
    assert mmaudio("status", JOB_ID).stdout.splitlines()[2:] == [f"  audio.flac: 8.00 s, {len(SOUND)} bytes"]


def test_status_as_json_is_the_document_of_the_server(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("failed", colour="red")]
    assert json.loads(mmaudio("status", JOB_ID, "--json").stdout) == job_document("failed", colour="red")


def test_list_in_a_pipe_is_one_whole_line_a_job(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    long = "a [red]ball[/red]\nand\t" + "so on " * 100 + "\x1b[31m"
    prompt = {"prompt": long, "variant": "tiny_16k", "num_steps": 25}
    other = "job_" + "b" * 32
    server.answers = [page(job_document("failed", request=prompt), job_document("canceled", id=other))]
    result = mmaudio("list", "--state", "failed", "--variant", "tiny_16k")
    assert (result.exit_code, [line.split("\t") for line in result.stdout.splitlines()]) == (
        0,
        [
            [JOB_ID, "failed", "tiny_16k", "2026-01-01T00:00:00Z", f"a [red]ball[/red] and {'so on ' * 100}[31m"],
            [other, "canceled", "tiny_16k", "2026-01-01T00:00:00Z", "rain"],
        ],
    )
    assert dict(server.requests[0].url.params) == {"limit": "20", "state": "failed", "variant": "tiny_16k"}


@pytest.mark.parametrize("columns", [20, 100, 400])
def test_on_a_terminal_of_any_width_only_the_last_column_is_shortened(
    monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("COLUMNS", str(columns))
    print_rows(
        HEADER, [(JOB_ID, "queued (position 12)", "large_44k_v2", "t", "雨 rain " * 30), (JOB_ID, "", "", "", "")]
    )
    header, row, _ = terminal.getvalue().splitlines()
    assert header.startswith("ID" + " " * 36)
    assert row.startswith(f"{JOB_ID}  queued (position 12)  large_44k_v2  ")
    assert (cell_len(row) <= columns, row.endswith("…")) == {
        20: (False, False),
        100: (True, True),
        400: (True, False),
    }[columns]


@pytest.mark.parametrize(
    ("seconds", "age"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (7199, "1h"), (86_400, "1d"), (30 * 86_400, "30d"), (-5, "0s")],
)
def test_list_on_a_terminal_shows_ages(seconds: int, age: str) -> None:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    assert _created(created, created + timedelta(seconds=seconds)) == age
    assert _created(datetime(2026, 1, 1, tzinfo=UTC), None) == "2026-01-01T00:00:00Z"


def test_list_as_json_prints_a_document_a_line(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [page(job_document("failed"), job_document("queued"))]
    lines = mmaudio("list", "--json").stdout.splitlines()
    assert [json.loads(line) for line in lines] == [job_document("failed"), job_document("queued")]


def test_a_variant_that_the_server_does_not_know_is_refused(mmaudio: Command, server: ScriptedServer) -> None:
    variants = httpx.Response(200, json={"data": [{"name": "tiny_16k"}, {"name": "small_16k"}]})
    server.answers = [page(), variants, page(), variants, page()]
    result = mmaudio("list", "--variant", "bogus")
    assert (result.exit_code, result.stdout) == (ExitCode.USAGE, "")
    assert "The server has no variant 'bogus'; it has: tiny_16k, small_16k." in result.stderr
    assert mmaudio("list", "--variant", "tiny_16k").exit_code == 0
    assert mmaudio("list").exit_code == 0


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_a_key_that_no_header_can_carry_is_refused_without_showing_it(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setenv("MMAUDIO_API_KEY", "secret\nvalue")
    result = mmaudio("list", *options)
    assert (result.exit_code, result.stdout, server.requests, server.naps) == (ExitCode.USAGE, "", [], [])
    assert "The API key contains a line break" in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert "secret" not in result.stderr


@pytest.mark.parametrize("command", [["list"], ["submit", "--prompt", "x"], ["status", JOB_ID]])
@pytest.mark.parametrize("status", [404, 501])
def test_a_web_server_that_is_no_mmaudio_is_named(
    mmaudio: Command, server: ScriptedServer, command: list[str], status: int
) -> None:
    page_ = httpx.Response(status, content=b"<html>Error response</html>", headers={"Content-Type": "text/html"})
    server.answers = [page_]
    result = mmaudio(*command, "--api-url", "http://files.example")
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "http://files.example is not an mmaudio server; check --api-url or MMAUDIO_API_URL." in result.stderr


def test_a_file_where_the_output_folder_should_be_is_a_sentence(mmaudio: Command, tmp_path: Path) -> None:
    (tmp_path / "fileout").write_text("x")
    result = mmaudio("submit", "--prompt", "x", "--output", "fileout")
    assert (result.exit_code, "'fileout' is a file, not a folder." in result.stderr) == (ExitCode.USAGE, True)


def test_list_asks_for_as_many_pages_as_it_shows(mmaudio: Command, server: ScriptedServer) -> None:
    first = page(*(job_document(id=f"job_{n}") for n in range(200)), following="/v1/jobs?cursor=1")
    server.answers = [first, page(*(job_document(id=f"job_{n}") for n in range(200, 400)), following="/v1/jobs?c=2")]
    rows = mmaudio("list", "--limit", "250").stdout.splitlines()
    assert (len(rows), rows[-1].split()[0]) == (250, "job_249")
    assert server.requests[0].url.params["limit"] == "200"


@pytest.mark.parametrize(("state", "word"), [("canceled", "canceled"), ("running", "stopping")])
def test_cancel_says_whether_the_job_has_stopped(
    mmaudio: Command, server: ScriptedServer, state: str, word: str
) -> None:
    server.answers = [job_answer("running"), job_answer(state), job_answer("running"), job_answer(state)]
    result = mmaudio("cancel", JOB_ID)
    assert (result.exit_code, result.stdout) == (0, f"{JOB_ID}: {word}\n")
    assert json.loads(mmaudio("cancel", JOB_ID, "--json").stdout) == job_document(state)


def test_cancel_of_an_ended_job_is_refused(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("succeeded"), problem(409, "job_ended", "The job has ended: succeeded.")]
    result = mmaudio("cancel", JOB_ID)
    assert (result.exit_code, result.stderr) == (ExitCode.REFUSED, "Error: The job has ended: succeeded.\n")


def test_download_saves_the_files_and_prints_their_paths(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    server.answers = [job_answer("succeeded"), sound()]
    result = mmaudio("download", JOB_ID, "--output", str(tmp_path / "new"))
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path}/new/rain.flac\n")
    assert (tmp_path / "new" / "rain.flac").read_bytes() == SOUND


def test_download_as_json_names_the_job_and_the_files(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("succeeded"), sound()]
    assert json.loads(mmaudio("download", JOB_ID, "--json").stdout) == {"job_id": JOB_ID, "saved_files": ["rain.flac"]}


@pytest.mark.parametrize(
    ("answers", "code", "sentence"),
    [
        (lambda: [job_answer("running")], ExitCode.REFUSED, "has no files yet; it is sampling (step 10/25)."),
        (
            lambda: [job_answer("running", stage="encode", step=None, eta_s=550.2)],
            ExitCode.REFUSED,
            "has no files yet; it is encoding, about 550 s left.",
        ),
        (lambda: [job_answer()], ExitCode.REFUSED, "has no files yet; it is queued (position 3)."),
        (lambda: [job_answer("failed")], ExitCode.FAILED, "The job failed: The file is empty."),
        (lambda: [job_answer("canceled")], ExitCode.CANCELED, "was canceled."),
        (
            lambda: [job_answer("succeeded", artifacts=[artifact_document(url=None)])],
            ExitCode.FILES,
            "has expired on the server.",
        ),
        (lambda: [job_answer("succeeded"), httpx.Response(200, content=b"x")], ExitCode.FILES, "arrived damaged"),
    ],
)
def test_download_without_a_file_is_a_sentence(
    mmaudio: Command,
    server: ScriptedServer,
    tmp_path: Path,
    answers: Callable[[], list[httpx.Response]],
    code: ExitCode,
    sentence: str,
) -> None:
    server.answers = [*answers()]
    result = mmaudio("download", JOB_ID, "--output", str(tmp_path))
    assert (result.exit_code, result.stdout, len(result.stderr.splitlines())) == (code, "", 1)
    assert sentence in result.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["status", "cancel", "download", "watch", "retry"])
def test_an_unknown_job_is_a_sentence(mmaudio: Command, server: ScriptedServer, command: str) -> None:
    server.answers = [problem(404, "job_not_found", "There is no job x."), problem(404, "job_not_found", "No.")]
    result = mmaudio(command, JOB_ID)
    assert (result.exit_code, result.stdout, result.stderr) == (ExitCode.REFUSED, "", "Error: There is no job x.\n")
    result = mmaudio(command, JOB_ID, "--json")
    assert (result.exit_code, result.stdout) == (ExitCode.REFUSED, "")
    assert json.loads(result.stderr) == {
        "error": {"code": "job_not_found", "message": "No.", "status": 404, "fields": {}}
    }


def test_a_server_that_is_away_is_named_at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    naps: list[float] = []
    monkeypatch.setattr("mmaudio_client.cli.session.Client", functools.partial(Client, sleep=naps.append))
    (tmp_path / "clip.mp4").write_bytes(b"video")
    url = "http://127.0.0.1:9"  # the discard service, which no machine runs any more
    for arguments in (["list"], ["status", JOB_ID], ["submit", "--prompt", "x"], ["submit", "clip.mp4"]):
        result = run(*arguments, "--api-url", url)
        assert (result.exit_code, result.stdout, naps) == (ExitCode.UNREACHABLE, "", [])
        assert result.stderr.startswith(f"Error: Cannot connect to {url}: Connection refused. ")
        assert "`mmaudio up`" in result.stderr
    error = json.loads(run("list", "--api-url", url, "--json").stderr)["error"]
    assert (error["code"], url in error["message"]) == ("server_unreachable", True)


def test_a_server_error_is_not_a_refusal(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [problem(500, "internal_error", "It broke.")]
    assert mmaudio("status", JOB_ID).exit_code == ExitCode.UNREACHABLE


@pytest.mark.parametrize("address", ["localhost:8000", "http://a:b"])
def test_an_address_that_is_none_is_a_sentence(address: str) -> None:
    result = run("list", "--api-url", address)
    assert (result.exit_code, result.stderr.startswith("Error: Got the server address")) == (ExitCode.USAGE, True)


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
        (["submit", "missing.mp4"], "There is no file 'missing.mp4'."),
        (["submit", "--prompt", "x", "--metadata", "novalue"], "Got --metadata 'novalue'; give KEY=VALUE."),
        (["submit", "--prompt", "x", "--metadata", "=x"], "Got --metadata '=x'; give KEY=VALUE."),
        (["submit", ""], "INPUT is empty"),
        (["submit", "--image", ""], "--image is empty"),
        (["submit", "--prompt", "x", "--output", ""], "The name of the folder is empty."),
        (["download", JOB_ID, "--output", ""], "The name of the folder is empty."),
        (["submit", "--prompt", "x", "--duration", "nan"], "'nan' is not a finite number"),
        (["submit", "--prompt", "x", "--cfg-strength", "inf"], "'inf' is not a finite number"),
        (["submit", "--prompt", "x", "--loudness-lufs", "nan"], "'nan' is not a finite number"),
        (["submit", "--prompt", "x", "--metadata", "a=\udcff"], "not valid Unicode, in metadata"),
        (["submit", "s3://b/a.mp4", "s3://b/b.mp4", "--metadata", "a=\udcff"], "not valid Unicode, in metadata"),
        (["triggers", "add", "videos", "--request", '{"seed": NaN}'], "NaN is not allowed"),
        (["list", "--limit", "0"], "'--limit'"),
        (["list", "--state", "asleep"], "'--state'"),
        (["status"], "'JOB'"),
        (["status", "x"], "'x' is not a job id"),
        (["sing"], "No such command 'sing'"),
        (["triggers", "sing"], "No such command 'sing'"),
        (["triggers", "add", "videos", "--request", "{"], "it is not JSON"),
    ],
)
def test_a_mistake_on_the_command_line_is_status_two_and_sends_nothing(
    mmaudio: Command, server: ScriptedServer, arguments: list[str], sentence: str
) -> None:
    result = mmaudio(*arguments)
    assert (result.exit_code, server.requests) == (ExitCode.USAGE, [])
    assert sentence in result.stderr
    result = mmaudio(*arguments, "--json")
    assert (result.exit_code, result.stdout, server.requests) == (ExitCode.USAGE, "", [])
    assert sentence in json.loads(result.stderr)["error"]["message"]
