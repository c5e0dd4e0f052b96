"""Calls the WSGI app in a request thread and keeps its answer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from api.bridge.body import BodyWanted
from api.bridge.waiting import ASKED, EventStream, JobWait
from api.problem_document import PROBLEM_TYPE, problem_document

log = logging.getLogger(__name__)

BLOCK_BYTES = 256 * 1024
WsgiApp = Callable[[dict[str, Any], Callable[..., Any]], Any]


@dataclass
class Answer:
    """Status, headers and body of an answer.

    Attributes:
        body: the first bytes.
        rest: returns the blocks that follow; None: there are none.
        close: ends the app's answer; called once, also when the client has gone.
        asked: what the request waits for; this is not its answer then, or only the head of it.
    """

    status: int
    headers: list[tuple[bytes, bytes]]
    body: bytes
    rest: Iterator[bytes] | None = None
    close: Callable[[], None] = field(default=lambda: None)
    asked: JobWait | EventStream | None = None


def problem_answer(status: HTTPStatus, code: str, detail: str, *, retry_after_s: int | None = None) -> Answer:
    """Return an answer with a problem document, made without the app."""
    body = json.dumps(problem_document(status, code, detail)).encode()
    headers = [(b"content-type", PROBLEM_TYPE.encode()), (b"content-length", str(len(body)).encode())]
    headers.append((b"x-content-type-options", b"nosniff"))
    if retry_after_s is not None:
        headers.append((b"retry-after", str(retry_after_s).encode()))
    return Answer(int(status), headers, body)


def call_app(app: WsgiApp, environ: dict[str, Any]) -> Answer | None:
    """Return the app's answer; None when it wants to read a body that has not arrived."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Callable[[bytes], None]:
        started[:] = [(status, headers)]
        return _refuse_write

    try:
        chunks = app(environ, start_response)
        blocks = _in_blocks(iter(chunks))
        body = next(blocks, b"")
    except BodyWanted:
        return None
    except Exception:
        log.exception("%s %s failed", environ["REQUEST_METHOD"], ascii(environ["PATH_INFO"])[1:-1])
        return problem_answer(
            HTTPStatus.INTERNAL_SERVER_ERROR,
            "internal_error",
            "The server failed unexpectedly; its log has the details.",
        )
    status, headers = started[0]
    close = getattr(chunks, "close", None) or (lambda: None)
    answer = Answer(
        int(status.split(" ", 1)[0]),
        [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        body,
        asked=environ.get(ASKED),
    )
    if len(body) < BLOCK_BYTES:
        close()
    else:
        answer.rest, answer.close = blocks, close
    return answer


def _refuse_write(_: bytes) -> None:
    raise NotImplementedError("the app returns its body")


def _in_blocks(chunks: Iterator[bytes]) -> Iterator[bytes]:
    """Join chunks to blocks of at least `BLOCK_BYTES`, so that few of them go through the event loop."""
    kept: list[bytes] = []
    size = 0
    for chunk in chunks:
        kept.append(chunk)
        size += len(chunk)
        if size >= BLOCK_BYTES:
            yield b"".join(kept)
            kept, size = [], 0
    if kept:
        yield b"".join(kept)
