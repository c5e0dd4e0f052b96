"""A server that answers from a script, and the documents it speaks in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx

from mmaudio_client import AsyncClient, Client, Job

URL = "http://platform.example"
JOB_ID = "job_" + "1" * 32
SOUND = bytes(range(256)) * 3000  # some chunks long
Answer = httpx.Response | Exception | Callable[[httpx.Request], httpx.Response]
MORE_THAN_PATIENCE = 200
"""More tries than any client of these tests makes."""


@dataclass
class ScriptedServer:
    """Gives its answers in order, raises those that are errors, and remembers what it was asked."""

    answers: list[Answer] = field(default_factory=list)
    requests: list[httpx.Request] = field(default_factory=list)
    naps: list[float] = field(default_factory=list)
    open_clients: ExitStack = field(default_factory=ExitStack)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        assert self.answers, f"not in the script: {request.method} {request.url}"
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer if isinstance(answer, httpx.Response) else answer(request)

    def client(self, base_url: str = URL, **options: Any) -> Client:
        transport = httpx.MockTransport(self)
        return self.open_clients.enter_context(Client(base_url, transport=transport, sleep=self.naps.append, **options))

    def async_client(self, base_url: str = URL, **options: Any) -> AsyncClient:
        """A client for an event loop, which whoever asks for it closes."""

        async def sleep(seconds: float) -> None:
            self.naps.append(seconds)

        return AsyncClient(base_url, transport=httpx.MockTransport(self), sleep=sleep, **options)

    @property
    def asked(self) -> list[str]:
        return [f"{request.method} {request.url}" for request in self.requests]


def artifact_document(name: str = "audio.flac", **members: Any) -> dict[str, Any]:
    return {
        "name": name,
        "kind": "audio",
        "format": "flac",
        "url": f"/v1/jobs/{JOB_ID}/artifacts/{name}?expires=1&signature=x",
        "size_bytes": len(SOUND),
        "sha256": hashlib.sha256(SOUND).hexdigest(),
        "duration_s": 8.0,
        "take": 0,
        "seed": 7,
        "expires_at": "2026-01-02T00:00:00.000Z",
        "expired": False,
        "delivered_to": None,
        **members,
    }


def job_document(state: str = "queued", **members: Any) -> dict[str, Any]:
    job_id, ended = members.get("id", JOB_ID), state in {"succeeded", "failed", "canceled"}
    link = f"/v1/jobs/{job_id}"
    failure = {"code": "media_invalid", "message": "The file is empty.", "stage": "decode", "retryable": False}
    return {
        "id": job_id,
        "state": state,
        "stage": "sample" if state == "running" else None,
        "progress": {"queued": 0.0, "running": 0.5}.get(state, 1.0),
        "step": 10 if state == "running" else None,
        "queue_position": 3 if state == "queued" else None,
        "eta_s": None,
        "attempts": [],
        "attempt": 0 if state == "queued" else 1,
        "max_attempts": 3,
        "request": {"prompt": "rain", "variant": "tiny_16k", "num_steps": 25},
        "error": failure if state == "failed" else None,
        "warnings": [],
        "timings": {},
        "artifacts": [artifact_document()] if state == "succeeded" else [],
        "preview": None,
        "worker": None,
        "retry_of": None,
        "batch": None,
        "batch_index": None,
        "cancel_requested": False,
        "created_at": "2026-01-01T00:00:00.000Z",
        "started_at": None,
        "finished_at": None,
        "links": {
            "self": link,
            "events": None,
            "cancel": None if ended else f"{link}/cancel",
            "retry": f"{link}/retry" if ended else None,
            "archive": None,
            "batch": None,
        },
        **members,
    }


def upload_document(method: str = "PUT", url: str = "/v1/uploads/upl_1/content?signature=x") -> dict[str, Any]:
    put = method == "PUT"
    return {
        "id": "upl_1",
        "state": "pending",
        "filename": "clip.mp4",
        "content_type": "application/octet-stream",
        "size_bytes": 5,
        "sha256": None,
        "created_at": "2026-01-01T00:00:00.000Z",
        "expires_at": "2026-01-02T00:00:00.000Z",
        "upload": {
            "method": method,
            "url": url,
            "headers": {"Content-Type": "application/octet-stream"} if put else {},
            "fields": {} if put else {"key": "uploads/upl_1", "policy": "p", "x-amz-signature": "s"},
            "expires_at": "2026-01-01T01:00:00.000Z",
        },
    }


def page_document(*jobs: dict[str, Any], following: str | None = None) -> dict[str, Any]:
    return {"data": list(jobs), "next_cursor": "c" if following else None, "links": {"next": following}}


def problem_document(status: int, code: str, detail: str, **members: Any) -> dict[str, Any]:
    return {"type": f"/problems/{code}", "title": "x", "status": status, "detail": detail, "code": code, **members}


def job(state: str = "queued", **members: Any) -> Job:
    return Job.from_json(job_document(state, **members))


def job_answer(state: str = "queued", **members: Any) -> httpx.Response:
    return httpx.Response(200, json=job_document(state, **members))


def upload_answer(upload_id: str = "upl_1", **members: Any) -> httpx.Response:
    """The answer to an announcement, or to a question about an upload."""
    return httpx.Response(200, json={**upload_document(), "id": upload_id, **members})


def sound(content: bytes = SOUND) -> httpx.Response:
    """The answer to a download."""
    return httpx.Response(200, content=content)


def page(*jobs: dict[str, Any], following: str | None = None) -> httpx.Response:
    return httpx.Response(200, json=page_document(*jobs, following=following))


def problem(
    status: int, code: str = "c", detail: str = "No.", *, headers: dict[str, str] | None = None, **members: Any
) -> httpx.Response:
    document = problem_document(status, code, detail, **members)
    kind = {"Content-Type": "application/problem+json"}
    return httpx.Response(status, json=document, headers={**kind, **(headers or {})})
