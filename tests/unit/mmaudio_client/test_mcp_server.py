"""The tools of the MCP server, called by the client of the official package."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client as McpClient
from mcp_types import CallToolResult

from mmaudio_client import AsyncClient
from mmaudio_client.mcp_server.server import new_server
from tests.unit.mmaudio_client.scripted_server import (
    JOB_ID,
    SOUND,
    ScriptedServer,
    job_answer,
    job_document,
    page,
    problem,
    sound,
    upload_answer,
)
from tests.unit.mmaudio_client.test_events import LINKS, frame, stream

Call = Callable[[McpClient], Awaitable[Any]]


def use(server: ScriptedServer, folder: Path, call: Call) -> Any:
    """Run a program that speaks MCP with the tools; they talk to the scripted server."""

    async def program() -> Any:
        async with McpClient(new_server(server.async_client, folder)) as client:
            return await call(client)

    return asyncio.run(program())


def tool(server: ScriptedServer, home: Path, tool_name: str, **arguments: Any) -> CallToolResult:
    async def call(client: McpClient) -> CallToolResult:
        return await client.call_tool(tool_name, arguments)

    result: CallToolResult = use(server, home, call)
    return result


def text_of(result: CallToolResult) -> str:
    return str(getattr(result.content[0], "text", ""))


def document(result: CallToolResult) -> dict[str, Any]:
    assert not result.is_error, text_of(result)
    return dict(result.structured_content or {})


def test_every_tool_and_argument_is_described(server: ScriptedServer, tmp_path: Path) -> None:
    async def call(client: McpClient) -> Any:
        return (await client.list_tools()).tools

    tools = {one.name: one for one in use(server, tmp_path, call)}
    assert set(tools) == {"make_sound", "job_status", "fetch_result", "cancel_job", "list_jobs", "list_variants"}
    for one in tools.values():
        assert one.description, one.name
        assert one.output_schema, one.name
        for name, schema in one.input_schema["properties"].items():
            assert "description" in schema or name == "audio_format", (one.name, name)
    read_only = {name for name, one in tools.items() if one.annotations is not None and one.annotations.read_only_hint}
    assert read_only == {"job_status", "list_jobs", "list_variants"}


def test_a_sound_is_made_for_a_video_with_progress(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "walk.mp4").write_bytes(b"video")
    request = {"video": "upl_1", "prompt": "footsteps", "seed": 7}
    frames = [frame(4, "stage"), frame(None, "progress"), frame(9, "succeeded", "succeeded")]
    server.answers = [
        upload_answer(),
        httpx.Response(200, json={}),
        job_answer(request=request, links=LINKS),
        stream(*frames),
        job_answer("succeeded", request=request),
        upload_answer(filename="walk.mp4"),
        sound(),
    ]
    told: list[tuple[float, str | None]] = []

    async def on_progress(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    async def call(client: McpClient) -> CallToolResult:
        arguments = {"prompt": "footsteps", "video": str(tmp_path / "walk.mp4"), "seed": 7}
        return await client.call_tool("make_sound", arguments, progress_callback=on_progress)

    made = document(use(server, tmp_path / "sounds", call))
    assert made["job_id"] == JOB_ID
    assert made["state"] == "succeeded"
    assert made["saved_files"] == [str(tmp_path / "sounds" / "walk.flac")]
    assert (tmp_path / "sounds" / "walk.flac").read_bytes() == SOUND
    assert json.loads(server.requests[2].content) == {**request, "audio_format": "flac"}
    assert [progress for progress, _ in told] == sorted({progress for progress, _ in told})
    assert told[-1] == (1.0, "sample")


def test_a_long_job_is_given_back_and_fetched_later(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [job_answer("queued", request={"prompt": "rain"})]
    made = document(tool(server, tmp_path, "make_sound", prompt="rain", wait_s=0))
    assert (made["state"], made["queue_position"], made["saved_files"]) == ("queued", 3, [])
    assert "job_status" in made["next_step"]

    server.answers = [job_answer("running")]
    assert document(tool(server, tmp_path, "job_status", job_id=JOB_ID))["stage"] == "sample"

    server.answers = [job_answer("succeeded", request={"prompt": "rain"}), sound()]
    fetched = document(tool(server, tmp_path, "fetch_result", job_id=JOB_ID, folder="later"))
    assert fetched["saved_files"] == [str(tmp_path / "later" / "rain.flac")]


def test_the_wait_has_an_end(server: ScriptedServer, tmp_path: Path) -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/events"):
            await asyncio.sleep(3600)
        return job_answer("running", links=LINKS)

    def open_client() -> AsyncClient:
        return AsyncClient("http://platform.example", transport=httpx.MockTransport(answer))

    async def program() -> CallToolResult:
        async with McpClient(new_server(open_client, tmp_path)) as client:
            return await client.call_tool("make_sound", {"prompt": "rain", "wait_s": 0.01})

    made = document(asyncio.run(program()))
    assert made["state"] == "running"
    assert made["saved_files"] == []


@pytest.mark.parametrize(
    ("answers", "arguments", "said"),
    [
        ([], {}, "give a prompt, a video or an image"),
        ([], {"video": "missing.mp4"}, "There is no file 'missing.mp4'"),
        ([], {"video": "/etc/passwd"}, "neither a video nor a picture by its suffix; it was not sent"),
        ([], {"image": "~/.ssh/id_ed25519"}, "it was not sent"),
        ([], {"video": "file:///a.mp4"}, "give the path of the file"),
        ([problem(401, "unauthorized", "Send an API key.")], {"prompt": "x"}, "Send an API key. (unauthorized)"),
        (
            [problem(422, "invalid_request", "Not allowed: seed", errors=[{"field": "seed", "message": "too large"}])],
            {"prompt": "x"},
            "seed: too large (invalid_request)",
        ),
        ([job_answer("failed")], {"prompt": "x"}, "failed: The file is empty. (media_invalid)."),
        ([job_answer("canceled")], {"prompt": "x"}, f"Job {JOB_ID} was canceled."),
        ([httpx.ConnectError("refused")] * 9, {"prompt": "x"}, "Cannot connect to http://platform.example"),
    ],
)
def test_errors_are_sentences(
    server: ScriptedServer, tmp_path: Path, answers: list[Any], arguments: dict[str, Any], said: str
) -> None:
    server.answers = [*answers]
    result = tool(server, tmp_path, "make_sound", **arguments)
    assert result.is_error
    assert said in text_of(result)


def test_a_folder_that_cannot_be_written_is_said(server: ScriptedServer, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    server.answers = [job_answer("succeeded", request={"prompt": "rain"})]
    result = tool(server, tmp_path, "fetch_result", job_id=JOB_ID, folder="file")
    assert result.is_error
    assert str(tmp_path / "file") in text_of(result)


def test_a_call_that_is_given_up_cancels_its_job(tmp_path: Path) -> None:
    asked: list[str] = []
    waiting = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path}")
        if request.url.path.endswith("/events"):
            waiting.set()
            await asyncio.sleep(3600)
        return job_answer("canceled" if request.url.path.endswith("/cancel") else "running", links=LINKS)

    def open_client() -> AsyncClient:
        return AsyncClient("http://platform.example", transport=httpx.MockTransport(answer))

    async def program() -> None:
        async with McpClient(new_server(open_client, tmp_path)) as client:
            call = asyncio.ensure_future(client.call_tool("make_sound", {"prompt": "rain"}))
            await waiting.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            while not asked[-1].endswith("/cancel"):
                await asyncio.sleep(0)

    asyncio.run(asyncio.wait_for(program(), 20))
    assert asked[-1] == f"POST /v1/jobs/{JOB_ID}/cancel"


def test_jobs_and_variants_are_listed(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [page(job_document("failed"))]
    (listed,) = document(tool(server, tmp_path, "list_jobs", state="failed", limit=5))["jobs"]
    assert (listed["job_id"], listed["error"]) == (JOB_ID, "The file is empty. (media_invalid)")
    assert dict(server.requests[-1].url.params) == {"limit": "5", "state": "failed"}
    server.answers = [httpx.Response(200, json={"data": [{"name": "small_44k"}]})]
    assert document(tool(server, tmp_path, "list_variants")) == {"variants": [{"name": "small_44k"}]}


def test_a_job_is_canceled(server: ScriptedServer, tmp_path: Path) -> None:
    server.answers = [job_answer("running"), job_answer("canceled")]
    assert document(tool(server, tmp_path, "cancel_job", job_id=JOB_ID))["state"] == "canceled"
