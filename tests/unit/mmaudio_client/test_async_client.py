"""The client for event loops: the same calls as the blocking one, without blocking the loop."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from mmaudio_client import AsyncClient, Client, ClientClosedError, JobFailedError, UnavailableError
from mmaudio_client.api_keys import ApiKeys, AsyncApiKeys
from mmaudio_client.batches import AsyncBatches, Batches
from mmaudio_client.presets import AsyncPresets, Presets
from mmaudio_client.triggers import AsyncTriggers, Triggers
from mmaudio_client.webhooks import AsyncWebhooks, Webhooks
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    SOUND,
    ScriptedServer,
    job,
    job_answer,
    job_document,
    page,
    problem,
    sound,
    upload_answer,
)


def public(kind: type) -> dict[str, Any]:
    found = {name: getattr(kind, name) for name in dir(kind) if not name.startswith("_")}
    return {name: value for name, value in found.items() if inspect.isfunction(value)}


@pytest.mark.parametrize(
    ("blocking", "asynchronous"),
    [
        (ApiKeys, AsyncApiKeys),
        (Batches, AsyncBatches),
        (Client, AsyncClient),
        (Presets, AsyncPresets),
        (Triggers, AsyncTriggers),
        (Webhooks, AsyncWebhooks),
    ],
)
def test_both_clients_have_the_same_calls(blocking: type, asynchronous: type) -> None:
    one, other = public(blocking), public(asynchronous)
    assert one.keys() - {"close"} == other.keys() - {"aclose"}
    for name in one.keys() & other.keys():
        assert inspect.signature(one[name]).parameters == inspect.signature(other[name]).parameters, name
        assert one[name].__doc__ == other[name].__doc__, name
        assert one[name].__doc__, name
        assert not inspect.iscoroutinefunction(one[name])
        returned = str(inspect.signature(other[name]).return_annotation)
        assert inspect.iscoroutinefunction(other[name]) or returned.startswith("AsyncIterator["), name


def test_help_shows_what_a_blocking_call_returns() -> None:
    assert str(inspect.signature(Client.get)) == "(self, job: 'Job | str', *, wait_s: 'float' = 0) -> 'Job'"
    assert inspect.signature(Client.watch).return_annotation == "Iterator[Job]"


def test_a_job_is_submitted_waited_for_and_saved(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"video")
    seen: list[tuple[int, int]] = []
    server.answers = [
        upload_answer(),
        httpx.Response(200, json={}),
        job_answer(request={"video": "upl_1", "prompt": "rain"}),
        httpx.Response(503),
        job_answer("succeeded", request={"video": "upl_1", "prompt": "rain"}),
        upload_answer(filename="walk.mp4"),
        sound(),
    ]

    async def program() -> tuple[Path, ...]:
        async with server.async_client() as client:
            made = await client.generate(
                "walk.mp4", prompt="rain", output="sounds", on_upload=lambda *done: seen.append(done)
            )
            assert made.path == made.paths[0]
            return made.paths

    assert asyncio.run(program()) == (Path("sounds/walk.flac"),)
    assert (tmp_path / "sounds" / "walk.flac").read_bytes() == SOUND
    assert seen == [(5, 5)]
    assert server.requests[1].content == b"video"


def test_a_job_that_fails_raises(server: ScriptedServer) -> None:
    server.answers = [job_answer("failed")]

    async def program() -> None:
        async with server.async_client() as client:
            await client.wait(job("running"))

    with pytest.raises(JobFailedError, match="The file is empty"):
        asyncio.run(program())


def test_jobs_are_listed_page_by_page(server: ScriptedServer) -> None:
    server.answers = [
        page(job_document(), following="/v1/jobs?cursor=c"),
        page(job_document(id="job_" + "2" * 32)),
    ]

    async def program() -> list[str]:
        async with server.async_client() as client:
            return [one.id async for one in client.list(state=["failed", "canceled"])]

    assert asyncio.run(program()) == [JOB_ID, "job_" + "2" * 32]
    assert server.requests[0].url.params["state"] == "failed,canceled"


def test_a_busy_server_is_asked_again_when_it_says(server: ScriptedServer) -> None:
    server.answers = [problem(429, headers={"Retry-After": "7"}), job_answer()]

    async def program() -> None:
        async with server.async_client() as client:
            await client.submit(prompt="rain")

    asyncio.run(program())
    assert server.naps == [7.0]


def test_a_call_that_is_cancelled_stops_at_once() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(3600)
        raise AssertionError

    async def program() -> None:
        async with AsyncClient("http://platform.example", transport=httpx.MockTransport(never)) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get(JOB_ID), 0.01)

    asyncio.run(program())


def test_calls_run_side_by_side() -> None:
    both = asyncio.Event()
    arrived: list[str] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        arrived.append(request.url.path)
        if len(arrived) == 2:
            both.set()
        await both.wait()
        return job_answer()

    async def program() -> None:
        async with AsyncClient("http://platform.example", transport=httpx.MockTransport(answer)) as client:
            await asyncio.gather(client.get(JOB_ID), client.get(JOB_ID))

    asyncio.run(program())


def test_events_are_followed(server: ScriptedServer) -> None:
    class Frames(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield (
                b'id: 3\ndata: {"id": 3, "job_id": "job_1", "kind": "queued", "state": "queued", "attempt": 0, '
                b'"data": {}, "created_at": "2026-01-01T00:00:00Z"}\n\n'
            )
            raise httpx.ReadError("reset by peer")

    headers = {"Content-Type": "text/event-stream"}
    server.answers = [httpx.Response(200, headers=headers, stream=Frames()), httpx.ConnectError("refused")]

    async def program() -> None:
        async with server.async_client(patience_s=0) as client:
            with pytest.raises(UnavailableError):
                async for event in client.all_events():
                    assert event.id == 3

    asyncio.run(program())


def test_a_closed_client_says_so(server: ScriptedServer) -> None:
    async def program() -> None:
        client = server.async_client()
        await client.aclose()
        with pytest.raises(ClientClosedError):
            await client.get(JOB_ID)

    asyncio.run(program())


def test_the_blocking_client_works_inside_a_running_event_loop(server: ScriptedServer) -> None:
    """As in a notebook."""
    server.answers = [page(job_document()), job_answer("succeeded")]

    async def program() -> None:
        client = server.client()
        assert [one.id for one in client.list()] == [JOB_ID]
        assert client.wait(JOB_ID).ended

    asyncio.run(program())
