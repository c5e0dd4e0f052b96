"""The commands `logs`, `delete` and `completion`, and the options of `list` and `retry` beside the filters."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from mmaudio_client.cli import commands
from mmaudio_client.cli.exit_codes import ExitCode
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import JOB_ID, ScriptedServer, job_answer, page, problem, sound
from tests.unit.mmaudio_client.test_events import LINKS, frame, stream

OTHER = "job_" + "2" * 32


def event(position: int, kind: str, *, attempt: int = 0, **data: Any) -> dict[str, Any]:
    return {
        "id": position,
        "job_id": JOB_ID,
        "kind": kind,
        "state": "running",
        "attempt": attempt,
        "data": data,
        "created_at": "2026-01-01T12:00:03.250Z",
    }


FAILURE = {"code": "media_invalid", "message": "The file\nis empty.", "stage": "decode", "retryable": False}


def test_events_are_shown_as_lines(mmaudio: Command, server: ScriptedServer) -> None:
    events = [
        event(3, "queued", retry_of=OTHER),
        event(4, "running", attempt=1, worker="gpu-1"),
        event(5, "stage", attempt=1, stage="sample"),
        event(6, "queued", attempt=1, error=FAILURE),
        event(7, "queued", attempt=2),
        event(8, "cancel_requested", attempt=2),
        event(9, "failed", attempt=2, error=FAILURE),
    ]
    server.answers = [httpx.Response(200, json={"data": events, "next_after": 9, "has_more": False})]
    result = mmaudio("logs", JOB_ID, "--after", "2")
    begin = [f"{number} 2026-01-01T12:00:03Z {JOB_ID}" for number in range(3, 10)]
    assert result.stdout.splitlines() == [
        f"{begin[0]} queued: retry of {OTHER}",
        f"{begin[1]} running: attempt 1 on gpu-1",
        f"{begin[2]} stage: sample",
        f"{begin[3]} queued: The file is empty. (media_invalid)",
        f"{begin[4]} queued: again after attempt 2",
        f"{begin[5]} cancel_requested",
        f"{begin[6]} failed: The file is empty. (media_invalid)",
    ]
    assert server.requests[0].url.params["after"] == "2"


def test_events_are_followed_until_the_job_ends(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [
        job_answer("running", links=LINKS),
        stream(frame(4, "stage"), frame(None, "progress"), frame(9, "failed", "failed")),
    ]
    result = mmaudio("logs", JOB_ID, "-f", "--json")
    assert result.exit_code == 0
    assert [json.loads(line)["kind"] for line in result.stdout.splitlines()] == ["stage", "failed"]


def test_the_events_of_all_jobs_are_followed_until_ctrl_c(mmaudio: Command, server: ScriptedServer) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    server.answers = [stream(frame(4, "stage")), interrupt]
    result = mmaudio("logs", "-f", "--kind", "stage")
    assert result.exit_code == ExitCode.INTERRUPTED
    assert result.stdout.startswith("4 ")
    assert server.requests[0].url.params["kinds"] == "stage"


def test_jobs_are_deleted_each_by_itself(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [problem(409, "job_not_ended", "It is running."), httpx.Response(204)]
    result = mmaudio("delete", JOB_ID, OTHER, JOB_ID)
    assert result.exit_code == ExitCode.REFUSED
    assert result.stderr == f"Error: {JOB_ID}: It is running.\n"
    assert result.stdout == f"{OTHER}: deleted\n"
    assert [request.method for request in server.requests] == ["DELETE", "DELETE"]


def test_on_a_terminal_deleting_is_asked_for(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmaudio_client.cli.delete._asks", lambda: True)
    monkeypatch.setattr("click.confirm", lambda text, **_: "Delete" not in text)
    assert "Nothing was deleted." in mmaudio("delete", JOB_ID).stderr
    assert server.requests == []
    server.answers = [httpx.Response(204)]
    assert mmaudio("delete", JOB_ID, "--yes", "--json").stdout == f'{{"id": "{JOB_ID}", "deleted": true}}\n'


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_calls_the_command(mmaudio: Command, shell: str) -> None:
    script = mmaudio("completion", shell).stdout
    assert "_MMAUDIO_COMPLETE" in script
    assert f"{shell}_complete" in script
    assert json.loads(mmaudio("completion", shell, "--json").stdout) == {"shell": shell, "script": script[:-1]}


@pytest.mark.parametrize(
    ("words", "expected"),
    [("mmaudio stat", {"status"}), ("mmaudio submit --prom", {"--prompt"}), ("mmaudio list --state fa", {"failed"})],
)
def test_the_shell_is_told_commands_options_and_choices(
    mmaudio: Command, words: str, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from click.testing import CliRunner

    from mmaudio_client.cli import main

    parts = words.split()
    environment = {
        "_MMAUDIO_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(parts) - 1),
    }
    output = CliRunner().invoke(main, [], env=environment, prog_name="mmaudio").output
    assert {line.partition(",")[2] for line in output.splitlines()} == expected


def test_completion_imports_no_command_of_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    from mmaudio_client.cli import main

    def load(name: str) -> None:
        raise AssertionError(name)

    monkeypatch.setattr(commands, "load", load)
    context = click.Context(main, resilient_parsing=True)
    assert isinstance(main, click.Group)
    assert main.get_command(context, "worker") is not None


def test_lists_take_several_states_and_a_text(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [page()]
    mmaudio("list", "--state", "failed", "--state", "canceled", "--query", "rain", "--metadata", "shot=12")
    assert dict(server.requests[0].url.params) == {
        "limit": "20",
        "state": "failed,canceled",
        "q": "rain",
        "metadata.shot": "12",
    }


def test_jobs_are_counted_by_state(mmaudio: Command, server: ScriptedServer) -> None:
    counts = {"queued": 1, "running": 2, "succeeded": 3, "failed": 4, "canceled": 5, "total": 15}
    server.answers = [httpx.Response(200, json=counts), httpx.Response(200, json=counts)]
    assert mmaudio("list", "--counts").stdout.splitlines()[0] == "queued\t1"
    assert json.loads(mmaudio("list", "--counts", "--json").stdout) == counts
    assert mmaudio("list", "--counts", "--code", "x").exit_code == ExitCode.USAGE


def test_a_retry_may_change_fields(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [job_answer("failed"), job_answer(), job_answer("succeeded"), sound()]
    changes = ["--set", "seed=null", "--set", "prompt=rain on tin", "--set", "num_steps=30", "--set", "mux=false"]
    assert mmaudio("retry", JOB_ID, *changes).exit_code == 0
    assert json.loads(server.requests[1].content) == {
        "seed": None,
        "prompt": "rain on tin",
        "num_steps": 30,
        "mux": False,
    }


@pytest.mark.parametrize("arguments", [[JOB_ID, "--set", "seed"], ["--state", "failed", "--set", "seed=1"]])
def test_changes_of_another_form_are_wrong_use(mmaudio: Command, server: ScriptedServer, arguments: list[str]) -> None:
    assert mmaudio("retry", *arguments).exit_code == ExitCode.USAGE
    assert server.requests == []
