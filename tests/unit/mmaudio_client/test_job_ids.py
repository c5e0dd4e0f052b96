"""Job ids as people type them: with or without `job_`, whole or only the beginning."""

from __future__ import annotations

import json

import pytest

from mmaudio_client import AmbiguousJobIdError, InvalidJobIdError, NotFoundError
from mmaudio_client.cli.exit_codes import ExitCode
from tests.unit.mmaudio_client.command_runner import Command
from tests.unit.mmaudio_client.scripted_server import ScriptedServer, job_answer, job_document, page

IDS = [f"job_0199{digits}" + "0" * 24 for digits in ("d001", "c001", "b002", "b001", "a001")]


def listed(*ids: str, following: str | None = None) -> list[object]:
    return [page(*(job_document(id=job_id) for job_id in ids), following=following)]


@pytest.mark.parametrize(
    "text", [IDS[0], IDS[0].removeprefix("job_"), IDS[0].upper().replace("JOB", "job"), f" {IDS[0]}\n"]
)
def test_a_whole_id_is_taken_without_asking(server: ScriptedServer, text: str) -> None:
    assert server.client().resolve_id(text) == IDS[0]
    assert server.requests == []


@pytest.mark.parametrize("text", ["job_0199c", "0199c", "0199C001"])
def test_the_beginning_of_an_id_is_looked_up(server: ScriptedServer, text: str) -> None:
    server.answers = [*listed(*IDS)]
    assert server.client().resolve_id(text) == IDS[1]


def test_the_search_ends_where_older_jobs_begin(server: ScriptedServer) -> None:
    server.answers = [
        *listed(*IDS[:2], following="/v1/jobs?cursor=1"),
        *listed(*IDS[2:], following="/v1/jobs?cursor=2"),
    ]
    assert server.client().resolve_id("0199b002") == IDS[2]
    assert (len(server.requests), server.requests[0].url.params["limit"]) == (2, "200")


def test_several_jobs_that_begin_so_are_named(server: ScriptedServer) -> None:
    server.answers = [*listed(*IDS)]
    with pytest.raises(AmbiguousJobIdError) as ambiguous:
        server.client().resolve_id("0199b")
    assert ambiguous.value.candidates == (IDS[2], IDS[3])
    assert all(job_id in str(ambiguous.value) for job_id in IDS[2:4])


def test_of_very_many_some_are_named(server: ScriptedServer) -> None:
    server.answers = [*listed(*(f"job_0199{n:028x}" for n in reversed(range(200))), following="/v1/jobs?cursor=1")]
    with pytest.raises(AmbiguousJobIdError, match="and more"):
        server.client().resolve_id("0199")
    assert len(server.requests) == 1


def test_the_nearest_are_named_where_none_begins_so(server: ScriptedServer) -> None:
    server.answers = [*listed(*IDS), *listed()]
    client = server.client()
    with pytest.raises(NotFoundError) as missing:
        client.resolve_id("0199b003")
    assert missing.value.code == "job_not_found"
    assert all(job_id in str(missing.value) for job_id in IDS[1:3])
    with pytest.raises(NotFoundError, match="No job has an id that begins with job_0199"):
        client.resolve_id("0199")


@pytest.mark.parametrize("text", ["", "job_", "019", "job_019", "xyz12", "0199-b", "0" * 33, "../0199"])
def test_what_can_be_no_id_is_refused_before_anything_is_sent(server: ScriptedServer, text: str) -> None:
    with pytest.raises(InvalidJobIdError, match="is not a job id"):
        server.client().resolve_id(text)
    assert server.requests == []


@pytest.mark.parametrize("command", ["status", "watch", "cancel", "download", "retry"])
def test_every_command_takes_the_beginning_of_an_id(mmaudio: Command, server: ScriptedServer, command: str) -> None:
    server.answers = [*listed(*IDS), job_answer("failed", id=IDS[1]), job_answer("failed", id=IDS[1])]
    mmaudio(command, "0199c", *(["--no-wait"] if command == "retry" else []))
    assert server.requests[1].url.path == f"/v1/jobs/{IDS[1]}"
    server.answers, server.requests = [*listed(*IDS)], []
    result = mmaudio(command, "0199b", "--json")
    assert (result.exit_code, result.stdout, len(server.requests)) == (ExitCode.USAGE, "", 1)
    error = json.loads(result.stderr)["error"]
    assert (error["code"], error["candidates"]) == ("ambiguous_job_id", IDS[2:4])
