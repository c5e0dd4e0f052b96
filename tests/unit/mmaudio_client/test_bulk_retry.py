"""Bulk retries: `Client.retry_all` and `mmaudio retry --state`, page by page, each job once."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click
import httpx
import pytest

from mmaudio_client import BulkRetry, InvalidRequestError, RetriedJob, UnavailableError, WrongServerError
from mmaudio_client.cli import bulk_retry
from mmaudio_client.cli.exit_codes import ExitCode
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import (
    MORE_THAN_PATIENCE,
    URL,
    ScriptedServer,
    job_answer,
    page,
    problem,
    sound,
)

SKIPPED = {"job": "job_x", "code": "invalid_request", "message": "video: upload upl_1 has expired; upload again"}
FULL = {"code": "queue_full", "message": "20 jobs are queued, at most 20 are allowed; try again later."}
AWAY = [httpx.ConnectError("refused")]


def done(*old: str, cursor: str | None = None, dry_run: bool = False, **members: Any) -> httpx.Response:
    """The answer to one page."""
    skipped = members.get("skipped", [])
    already = members.pop("already_retried", 0)
    counts = {"matched": 0, "retried": len(old), "already_retried": already, "skipped": len(skipped)}
    document = {
        "dry_run": dry_run,
        "counts": counts,
        "retried": [{"retry_of": name, "id": None if dry_run else f"new_{name}"} for name in old],
        "skipped": [],
        "stopped": None,
        "next_cursor": cursor,
        **members,
    }
    return httpx.Response(200, json=document)


def bodies(server: ScriptedServer) -> list[dict[str, Any]]:
    return [json.loads(request.content) for request in server.requests]


def on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the command ask, as it does on a terminal."""
    monkeypatch.setattr("mmaudio_client.cli.bulk_retry._asks", lambda: True)


def test_pages_are_asked_for_until_none_is_left(server: ScriptedServer) -> None:
    server.answers = [done("a", "b", cursor="c1"), done(cursor="c2"), done("c", skipped=[SKIPPED], already_retried=4)]
    seen: list[BulkRetry] = []
    result = server.client().retry_all(state="failed", code="storage_unavailable", on_page=seen.append)
    assert result.retried == tuple(RetriedJob(name, f"new_{name}") for name in "abc")
    assert ([one.job_id for one in result.skipped], result.already_retried, result.stopped) == (["job_x"], 4, None)
    assert server.asked == [f"POST {URL}/v1/jobs/retry"] * 3
    first = {"state": "failed", "code": "storage_unavailable", "dry_run": False, "limit": 100}
    assert bodies(server) == [first, {**first, "cursor": "c1"}, {**first, "cursor": "c2"}]
    assert [len(one.retried) for one in seen] == [2, 0, 1]


def test_all_filters_are_sent(server: ScriptedServer) -> None:
    server.answers = [done()]
    server.client().retry_all(
        state="canceled", variant="tiny_16k", created_after=datetime(2026, 1, 2, tzinfo=UTC),
        created_before="2026-02-01T00:00:00Z", metadata={"batch": "7"}, dry_run=True, limit=5,
    )  # fmt: skip
    assert bodies(server) == [
        {
            "state": "canceled", "variant": "tiny_16k", "created_after": "2026-01-02T00:00:00+00:00",
            "created_before": "2026-02-01T00:00:00Z", "metadata": {"batch": "7"}, "dry_run": True, "limit": 5,
        }
    ]  # fmt: skip


def test_the_limit_ends_it_although_more_jobs_match(server: ScriptedServer) -> None:
    server.answers = [done("a", "b", cursor="c1"), done("c", cursor="c2")]
    assert len(server.client().retry_all(state="failed", limit=3).retried) == 3
    assert [body["limit"] for body in bodies(server)] == [3, 1]


@pytest.mark.parametrize("full", [done("b", stopped=FULL, cursor="c2"), problem(429, "queue_full", FULL["message"])])
def test_a_full_queue_ends_it_with_what_was_done(server: ScriptedServer, full: httpx.Response) -> None:
    server.answers = [done("a", cursor="c1"), full]
    result = server.client().retry_all(state="failed")
    assert (result.retried[0], result.stopped) == (RetriedJob("a", "new_a"), FULL["message"])
    assert server.naps == []


def test_an_outage_is_waited_out_and_the_page_is_sent_again(server: ScriptedServer) -> None:
    lost = [httpx.ReadError("reset"), httpx.Response(502), *AWAY * 5]
    server.answers = [done("a", cursor="c1"), *lost, done(already_retried=100)]
    result = server.client().retry_all(state="failed")
    assert ([one.retry_of for one in result.retried], result.already_retried) == (["a"], 100)
    assert [body.get("cursor") for body in bodies(server)] == [None, *["c1"] * 8]


def test_a_filter_that_is_not_allowed_and_an_answer_of_another_form_are_errors(server: ScriptedServer) -> None:
    server.answers = [problem(422, "invalid_request", errors=[{"field": "code", "message": "no"}])]
    with pytest.raises(InvalidRequestError):
        server.client().retry_all(state="failed", code="No")
    server.answers = [httpx.Response(200, json={"retried": []})]
    with pytest.raises(WrongServerError, match="not a bulk retry"):
        server.client().retry_all(state="failed")


def test_the_command_prints_the_new_ids_and_a_summary(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [done("a", cursor="c1"), done("b", already_retried=2)]
    result = mmaudio("retry", "--state", "failed", "--code", "storage_unavailable", "--variant", "tiny_16k")
    assert (result.exit_code, result.stdout) == (0, "new_a\nnew_b\n")
    assert result.stderr == "2 failed jobs retried, 2 had been retried before.\n"
    assert bodies(server)[0] == {
        "state": "failed", "code": "storage_unavailable", "variant": "tiny_16k", "dry_run": False, "limit": 100,
    }  # fmt: skip


def test_the_command_says_what_cannot_be_retried_and_why_it_stopped(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [done("a", skipped=[SKIPPED], stopped=FULL, cursor="c1")]
    result = mmaudio("retry", "--state", "failed")
    assert (result.exit_code, result.stdout) == (ExitCode.REFUSED, "new_a\n")
    assert result.stderr.splitlines() == [
        "job_x: not retried: video: upload upl_1 has expired; upload again",
        "1 failed jobs retried, 1 cannot be retried. Stopped: 20 jobs are queued, at most 20 are allowed; "
        "try again later. The same command goes on with the others later.",
    ]


def test_a_dry_run_prints_the_jobs_and_asks_nothing(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    server.answers = [done("a", "b", dry_run=True, skipped=[SKIPPED])]
    result = mmaudio("retry", "--state", "failed", "--dry-run")
    assert (result.exit_code, result.stdout) == (0, "a\nb\n")
    assert "2 failed jobs would be retried, 1 cannot be retried." in result.stderr
    assert bodies(server)[0]["dry_run"] is True


@pytest.mark.parametrize("made", [True, False])
def test_on_a_terminal_the_command_asks_with_the_count(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, made: bool
) -> None:
    on_a_terminal(monkeypatch)
    asked: list[str] = []
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text) or made)
    server.answers = [done("a", "b", dry_run=True), *([done("a", "b")] if made else [])]
    result = mmaudio("retry", "--state", "failed")
    assert result.exit_code == 0
    assert [body["dry_run"] for body in bodies(server)] == [True, *([False] if made else [])]
    assert ("Nothing was retried." in result.stderr) is not made
    assert asked == ["Retry 2 failed jobs?"]


def test_ctrl_c_at_the_question_retries_nothing(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def abort(*_: object, **__: object) -> bool:
        raise click.Abort

    on_a_terminal(monkeypatch)
    monkeypatch.setattr("click.confirm", abort)
    server.answers = [done("a", dry_run=True)]
    result = mmaudio("retry", "--state", "failed")
    assert (result.exit_code, "nothing was retried" in result.stderr) == (ExitCode.INTERRUPTED, True)


def test_many_jobs_are_not_all_counted_before_the_question(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    asked: list[str] = []
    monkeypatch.setattr(bulk_retry, "COUNTED_JOBS", 3)
    monkeypatch.setattr("click.confirm", lambda text, **_: asked.append(text))
    server.answers = [done("a", "b", dry_run=True, cursor="c1"), done("c", dry_run=True, cursor="c2")]
    assert mmaudio("retry", "--state", "failed").exit_code == 0
    assert asked == ["Retry 3 or more failed jobs?"]


def test_yes_and_no_matching_job_ask_nothing(
    mmaudio: Command, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_a_terminal(monkeypatch)
    monkeypatch.setattr("click.confirm", lambda *_, **__: pytest.fail("asked"))
    server.answers = [done("a"), done(dry_run=True), done()]
    assert mmaudio("retry", "--state", "failed", "--yes").stdout == "new_a\n"
    assert "0 failed jobs retried." in mmaudio("retry", "--state", "failed").stderr


def test_as_json_each_page_is_a_document(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [done("a", cursor="c1"), done(skipped=[SKIPPED])]
    result = mmaudio("retry", "--state", "failed", "--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["retried"] == [{"retry_of": "a", "job_id": "new_a"}]
    assert second["skipped"][0]["job_id"] == "job_x"
    assert (result.exit_code, result.stderr) == (ExitCode.REFUSED, "")


@pytest.mark.parametrize("end", [KeyboardInterrupt(), *AWAY])
def test_an_end_in_the_middle_says_how_many_were_done(
    mmaudio: Command, server: ScriptedServer, end: BaseException
) -> None:
    def interrupt(request: httpx.Request) -> httpx.Response:
        raise end

    server.answers = [done("a", "b", cursor="c1"), *[interrupt] * MORE_THAN_PATIENCE]
    result = mmaudio("retry", "--state", "failed")
    interrupted = isinstance(end, KeyboardInterrupt)
    assert result.exit_code == (ExitCode.INTERRUPTED if interrupted else ExitCode.UNREACHABLE)
    assert ("Interrupted after 2 jobs" if interrupted else "2 failed jobs retried") in result.stderr


@pytest.mark.parametrize(
    ("given", "time"),
    [
        ("2026-01-31T12:00:00+02:00", datetime(2026, 1, 31, 10, tzinfo=UTC)),
        ("2h", timedelta(hours=2)),
        ("30m", timedelta(minutes=30)),
        ("1d", timedelta(days=1)),
    ],
)
def test_since_is_a_time_or_an_age(
    mmaudio: Command, server: ScriptedServer, given: str, time: datetime | timedelta
) -> None:
    server.answers = [done()]
    assert mmaudio("retry", "--state", "failed", "--since", given, "--metadata", "batch=7").exit_code == 0
    (body,) = bodies(server)
    sent = datetime.fromisoformat(body["created_after"])
    wanted = time if isinstance(time, datetime) else datetime.now(UTC) - time
    assert abs(sent - wanted) < timedelta(minutes=5)
    assert body["metadata"] == {"batch": "7"}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "Nothing to retry: give a job, or --state failed."),
        (["--code", "x"], "--code needs --state failed"),
        (["job_1", "--dry-run"], "--dry-run needs --state failed"),
        (["job_1", "--state", "failed"], "Give either jobs or --state, not both."),
        (["--state", "canceled", "--code", "x"], "Only failed jobs have an error code"),
        (["--state", "failed", "--since", "soon"], "'soon' is not a time"),
        (["--state", "failed", "--since", "999999999d"], "is not a time"),
        (["--state", "failed", "--output", "x"], "--output has no effect"),
        (["--state", "failed", "--metadata", "x"], "give KEY=VALUE"),
    ],
)
def test_a_mistake_is_a_sentence_and_sends_nothing(
    mmaudio: Command, server: ScriptedServer, arguments: list[str], sentence: str
) -> None:
    result = mmaudio("retry", *arguments)
    assert (result.exit_code, server.requests) == (ExitCode.USAGE, [])
    assert sentence in " ".join(result.stderr.split())


def test_several_jobs_are_retried_and_the_exit_code_is_that_of_the_worst(
    mmaudio: Command, server: ScriptedServer, tmp_path: Path
) -> None:
    ids = ["job_" + digit * 32 for digit in "abc"]
    server.answers = [
        job_answer("failed", id=ids[0]), job_answer(id="job_1"),
        job_answer("running", id=ids[1]), problem(409, "job_not_ended", "It is running."),
        job_answer("failed", id=ids[2]), job_answer(id="job_2"),
        job_answer("failed", id="job_1"), job_answer("succeeded", id="job_2"), sound(),
    ]  # fmt: skip
    result = mmaudio("retry", *ids)
    assert (result.exit_code, result.stdout, server.answers) == (ExitCode.REFUSED, "rain.flac\n", [])
    assert f"Error: {ids[1]}: It is running." in result.stderr
    assert "Error: job_1: The job failed: The file is empty." in result.stderr


def test_list_shows_jobs_of_one_error_code(mmaudio: Command, server: ScriptedServer) -> None:
    server.answers = [page()]
    assert mmaudio("list", "--code", "storage_unavailable").exit_code == 0
    assert server.requests[0].url.params["code"] == "storage_unavailable"


def test_an_error_of_the_client_leaves_what_the_pages_told(server: ScriptedServer) -> None:
    seen: list[BulkRetry] = []
    server.answers = [done("a", cursor="c1"), *AWAY * MORE_THAN_PATIENCE]
    with pytest.raises(UnavailableError):
        server.client().retry_all(state="failed", on_page=seen.append)
    assert [one.retry_of for page in seen for one in page.retried] == ["a"]
