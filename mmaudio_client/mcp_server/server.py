"""The tools, over one asynchronous client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import Field

from mmaudio_client.async_client import AsyncClient
from mmaudio_client.errors import ClientError
from mmaudio_client.inputs import IMAGE_SUFFIXES, VIDEO_SUFFIXES, is_remote
from mmaudio_client.mcp_server.results import JobList, JobResult, VariantList, job_result
from mmaudio_client.models import Event, Job
from mmaudio_client.submit_fields import AudioFormat, SubmitFields
from mmaudio_client.version import __version__

CANCEL_S = 10.0
"""Longest time to cancel the job of a call that was given up."""
INSTRUCTIONS = (
    "Makes sounds (Foley, ambience, effects; no speech) for videos and pictures, or from a text alone. "
    "make_sound waits and saves the files; a job that takes longer is followed with job_status and fetch_result."
)
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
MAKES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
SAVES = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=True, open_world_hint=False)

JobId = Annotated[str, Field(description="Id of a job, or its beginning, as the other tools return it.")]
Folder = Annotated[
    str | None,
    Field(description="Folder for the files, absolute or below the server's own; default: the server's own folder."),
]
Input = Annotated[str | None, Field(description="Path of a local file, s3://bucket/key, an https URL or an upload id.")]
State = Literal["queued", "running", "succeeded", "failed", "canceled"]


def new_server(open_client: Callable[[], AsyncClient], folder: Path) -> MCPServer[AsyncClient]:
    """Return the server.

    Args:
        open_client: returns the client for all calls.
        folder: where files are saved by default.
    """

    @asynccontextmanager
    async def lifespan(_: MCPServer[AsyncClient]) -> AsyncIterator[AsyncClient]:
        async with open_client() as client:
            yield client

    server: MCPServer[AsyncClient] = MCPServer(
        "mmaudio",
        title="MMAudio",
        instructions=INSTRUCTIONS,
        version=__version__,
        lifespan=lifespan,
        log_level="WARNING",
    )

    @server.tool(title="Make a sound", annotations=MAKES)
    async def make_sound(
        ctx: Context[AsyncClient, object],
        prompt: Annotated[str, Field(description="What is heard, in a few words: 'footsteps on gravel'.")] = "",
        video: Input = None,
        image: Input = None,
        negative_prompt: Annotated[str, Field(description="What must not be heard.")] = "",
        duration_s: Annotated[float | None, Field(description="Length in seconds; default: that of the video.")] = None,
        start_s: Annotated[float | None, Field(description="Where in the video to begin, in seconds.")] = None,
        num_samples: Annotated[int | None, Field(ge=1, le=8, description="How many takes.")] = None,
        seed: Annotated[int | None, Field(description="The same seed gives the same sound; default: random.")] = None,
        variant: Annotated[str | None, Field(description="Model variant; list_variants names them.")] = None,
        audio_format: AudioFormat = "flac",
        folder: Folder = None,
        wait_s: Annotated[
            float, Field(ge=0, le=3600, description="Longest wait for the result; 0: return at once.")
        ] = 600,
    ) -> JobResult:
        """Make a sound for a video, for a picture, or from the prompt alone; wait for it and save the files.

        Saves the sound and, for a video, the video with the new sound. Existing files are never replaced.
        """
        client = ctx.request_context.lifespan_context
        if not (prompt.strip() or video or image):
            raise ToolError("Nothing to make a sound from: give a prompt, a video or an image.")
        fields: SubmitFields = {
            "prompt": prompt or None,
            "negative_prompt": negative_prompt or None,
            "duration_s": duration_s,
            "start_s": start_s,
            "num_samples": num_samples,
            "seed": seed,
            "variant": variant,
            "audio_format": audio_format,
        }
        with _tool_errors():
            video_source, image_source = _source(video), _source(image)
            target = _target(folder)
            job = await client.submit(video=video_source, image=image_source, **fields)
            job = await _followed(client, job, ctx, wait_s)
            if job.state != "succeeded":
                return job_result(_succeeding(job))
            return job_result(job, await client.download(job, target))

    @server.tool(title="Status of a job", annotations=READS)
    async def job_status(ctx: Context[AsyncClient, object], job_id: JobId) -> JobResult:
        """Return the state of a job: queued, running (with stage and progress), succeeded, failed or canceled."""
        client = ctx.request_context.lifespan_context
        with _tool_errors():
            return job_result(await client.get(await client.resolve_id(job_id)))

    @server.tool(title="Save the files of a job", annotations=SAVES)
    async def fetch_result(
        ctx: Context[AsyncClient, object],
        job_id: JobId,
        folder: Folder = None,
        wait_s: Annotated[float, Field(ge=0, le=3600, description="Longest wait for a job that has not ended.")] = 0,
    ) -> JobResult:
        """Save the files of a job that has succeeded, and return their paths. Existing files are never replaced."""
        client = ctx.request_context.lifespan_context
        with _tool_errors():
            job = await client.get(await client.resolve_id(job_id))
            job = await _followed(client, job, ctx, wait_s, cancel=False)
            if job.state != "succeeded":
                return job_result(_succeeding(job))
            return job_result(job, await client.download(job, _target(folder)))

    @server.tool(title="Cancel a job", annotations=SAVES)
    async def cancel_job(ctx: Context[AsyncClient, object], job_id: JobId) -> JobResult:
        """Cancel a job that is queued or running."""
        client = ctx.request_context.lifespan_context
        with _tool_errors():
            return job_result(await client.cancel(await client.resolve_id(job_id)))

    @server.tool(title="List jobs", annotations=READS)
    async def list_jobs(
        ctx: Context[AsyncClient, object],
        state: Annotated[State | None, Field(description="Only jobs in this state.")] = None,
        limit: Annotated[int, Field(ge=1, le=100, description="At most this many.")] = 20,
    ) -> JobList:
        """List the latest jobs, newest first."""
        client = ctx.request_context.lifespan_context
        with _tool_errors():
            page = await client.page(limit=limit, **({"state": state} if state is not None else {}))
            return JobList(jobs=[job_result(job) for job in page.jobs])

    @server.tool(title="List model variants", annotations=READS)
    async def list_variants(ctx: Context[AsyncClient, object]) -> VariantList:
        """List the model variants of the server, with their limits and licences."""
        with _tool_errors():
            return VariantList(variants=[dict(one) for one in await ctx.request_context.lifespan_context.variants()])

    def _target(wanted: str | None) -> Path:
        return folder if wanted is None else folder / Path(wanted).expanduser()

    return server


async def _followed(
    client: AsyncClient, job: Job, ctx: Context[AsyncClient, object], wait_s: float, *, cancel: bool = True
) -> Job:
    """Return a job once it has ended or the time is up; tell its progress meanwhile.

    Args:
        cancel: cancel the job when the call is given up.
    """
    if job.ended or wait_s <= 0:
        return job
    try:
        with anyio.move_on_after(wait_s):
            told = -1.0
            async for event in client.events(job):
                done = _done(event, told)
                if done > told:  # it must grow from one notification to the next
                    told = done
                    await ctx.report_progress(done, 1.0, _message(event))
    except anyio.get_cancelled_exc_class():
        if cancel:
            with anyio.move_on_after(CANCEL_S, shield=True), suppress(ClientError):
                await client.cancel(job)
        raise
    return await client.get(job.id)


def _done(event: Event, told: float) -> float:
    progress = event.data.get("progress")
    if event.state == "succeeded":
        return 1.0
    if isinstance(progress, int | float):
        return min(float(progress), 0.999)
    return max(told, 0.0) + 0.0001


def _message(event: Event) -> str:
    return str(event.data.get("stage") or event.kind)


def _succeeding(job: Job) -> Job:
    """Return a job that has succeeded or may yet.

    Raises:
        ToolError: it ended otherwise.
    """
    if job.state == "failed":
        reason = f"{job.error.message} ({job.error.code})" if job.error is not None else "no reason given"
        again = " The same call may succeed later." if job.error is not None and job.error.retryable else ""
        raise ToolError(f"Job {job.id} failed: {reason}.{again}")
    if job.state == "canceled":
        raise ToolError(f"Job {job.id} was canceled.")
    return job


def _source(given: str | None) -> str | Path | None:
    """Return an input for the client.

    Raises:
        ToolError: a local file that by its suffix is neither a video nor a picture: no other file leaves the machine.
    """
    if not given or is_remote(given):
        return given or None
    if urlsplit(given).scheme == "file":
        raise ToolError(f"Got {given!r}; give the path of the file.")
    path = Path(given).expanduser()
    if path.suffix.lower() not in VIDEO_SUFFIXES | IMAGE_SUFFIXES:
        raise ToolError(f"{given!r} is neither a video nor a picture by its suffix; it was not sent.")
    return path


class _tool_errors:  # noqa: N801 - used like a function
    """Makes errors of the client and of files sentences that the assistant reads."""

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, _: object) -> None:
        if isinstance(error, ClientError):
            raise ToolError(f"{error} ({error.code})" if error.code else str(error)) from error
        if isinstance(error, OSError):
            reason = error.strerror or str(error)
            raise ToolError(f"{reason}: {error.filename}" if error.filename else reason) from error
