"""The ASGI side of the bridge: clients wait here, without a thread, until the app can answer them at once."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, BinaryIO, cast

from api.bridge.answer import Answer, WsgiApp, call_app, problem_answer
from api.bridge.body import CUT_SHORT, TOO_SLOW, BodyCutError, Receive, RequestBody, StreamedBody, UnreadBody
from api.bridge.environ import CALLED_BEFORE, wsgi_environ
from api.bridge.held import HeldRequests
from api.bridge.limits import BridgeLimits
from api.bridge.waiting import HELD, WAITED, EventStream, JobWait, Waited
from jobs.log_limit import LogLimit

log = logging.getLogger(__name__)

Send = Callable[[dict[str, Any]], Awaitable[None]]
# Threads that nothing else can take: liveness is answered while all request threads wait.
RESERVED = {"/healthz": 2, "/readyz": 4}
RETRY_AFTER_S = 2


class Bridge:
    """An ASGI app that runs a WSGI app in threads.

    A body is read in the event loop, within its time limit, before the app gets a thread; an upload is read by its
    thread while it arrives. What a client has not taken of an answer waits in the event loop as well.

    Args:
        is_streamed: whether the app reads the body of this method and path while it arrives.
        held: holds what waits or streams; None: such requests keep their threads (`api.events.in_thread`).
        body_limit: the most bytes that another body of this method and path may have. Default: `limits.body_bytes`.
    """

    def __init__(
        self,
        app: WsgiApp,
        limits: BridgeLimits,
        *,
        is_streamed: Callable[[str, str], bool],
        held: HeldRequests | None = None,
        body_limit: Callable[[str, str], int] | None = None,
        log_limit: LogLimit | None = None,
    ) -> None:
        self._app, self._limits, self._is_streamed = app, limits, is_streamed
        self._body_limit = body_limit or (lambda _method, _path: limits.body_bytes)
        self._held = held
        self._loop: asyncio.AbstractEventLoop | None = None
        # Thousands of jobs may end at once; those who waited for them take turns and leave threads to others.
        self._turns = asyncio.Semaphore(max(1, limits.threads // 2))
        self._log_limit = log_limit or LogLimit()
        self._threads = ThreadPoolExecutor(limits.threads, thread_name_prefix="request")
        self._reserved = {
            path: ThreadPoolExecutor(count, thread_name_prefix=path.strip("/")) for path, count in RESERVED.items()
        }
        self._running = 0
        self._buffered_bytes = self._large_bytes = 0

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        self._loop = asyncio.get_running_loop()
        body = RequestBody(receive, scope["headers"])
        try:
            if self._is_streamed(scope["method"], scope["path"]) and not body.ended:
                stream = StreamedBody(body, asyncio.get_running_loop(), self._limits)
                answer = await self._call(scope, cast("BinaryIO", stream), body.declared)
            else:
                answer = await self._answer_buffered(scope, body)
        except BodyCutError:
            answer = problem_answer(HTTPStatus.BAD_REQUEST, "incomplete_body", CUT_SHORT)
        assert answer is not None
        held, asked = self._held, answer.asked
        if held is None or asked is None:
            await self._send(answer, body, send)
        elif isinstance(asked, JobWait):
            await self._answer_after(held, asked, scope, body, send)
        elif held.is_full:
            asked.on_end()
            await self._send(self._busy("too many requests wait or stream"), body, send)
        else:
            await self._send_stream(held, asked, answer, body, send)

    async def _answer_after(
        self, held: HeldRequests, asked: JobWait, scope: dict[str, Any], body: RequestBody, send: Send
    ) -> None:
        """Wait for jobs without a thread, then let the app answer."""
        gone = asyncio.ensure_future(body.disconnected())
        try:
            end = await held.wait(asked, gone)
        finally:
            gone.cancel()
            body.forget()
        if end is None:
            return
        environ = {**wsgi_environ(scope, io.BytesIO(), None), HELD: True, WAITED: Waited(end, asked.again)}
        async with self._turns:
            answer = await asyncio.get_running_loop().run_in_executor(self._threads, call_app, self._app, environ)
        assert answer is not None, "this body has arrived"
        await self._send(answer, body, send)

    async def _send_stream(
        self, held: HeldRequests, asked: EventStream, answer: Answer, body: RequestBody, send: Send
    ) -> None:
        """Send the head of an answer and then events, until the stream ends or the client has gone."""
        headers = [(name, value) for name, value in answer.headers if name != b"content-length"]
        try:
            await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        except BaseException:
            asked.on_end()  # the client has gone; nothing was held yet
            raise
        gone = asyncio.ensure_future(body.disconnected())

        async def send_bytes(data: bytes) -> None:
            await send({"type": "http.response.body", "body": data, "more_body": True})

        try:
            await held.stream(asked, send_bytes, gone)
            if not gone.done():
                last = {"type": "http.response.body", "body": b"", "more_body": False}
                await asyncio.wait_for(send(last), self._limits.stall_s)
        except TimeoutError:
            self._log("a client that did not take its events")
        finally:
            gone.cancel()
            body.forget()

    def stop_holding(self) -> None:
        """End the requests that wait or stream, because the server stops; may be called from any thread."""
        if self._held is not None and self._loop is not None:
            self._loop.call_soon_threadsafe(self._held.close)

    async def _answer_buffered(self, scope: dict[str, Any], body: RequestBody) -> Answer:
        """Read the body and call the app. When it takes long to arrive, ask the app first whether it wants it."""
        received = _Received(self._body_limit(scope["method"], scope["path"]))
        began = asyncio.get_running_loop().time()
        try:
            refusal, again = None, False
            # Of a larger body no more: the app may refuse who sends it.
            first_bytes = min(received.max_bytes, self._limits.body_bytes)
            if not body.waits_for_continue and (body.declared or 0) <= first_bytes:
                refusal = await self._read(body, received, began + self._limits.prompt_s, most_bytes=first_bytes)
            if refusal is None and (not body.ended or received.too_large):
                answer = await self._call(scope, cast("BinaryIO", UnreadBody()), body.declared)
                if answer is not None:
                    return answer
                again = True
                refusal = await self._read_rest(body, received, began)
            if refusal is not None:
                return refusal
            length = received.size if received.size or body.declared is not None else None
            answer = await self._call(scope, received.stream(), length, again=again)
            assert answer is not None, "only an unread body is wanted"
            return answer
        finally:
            self._count(received, -received.size)

    async def _read_rest(self, body: RequestBody, received: _Received, began: float) -> Answer | None:
        """Read until the body ends; return a refusal when it is too large, too slow, or memory is short."""
        if (body.declared or 0) <= received.max_bytes:
            large_bytes = max(0, (body.declared or received.max_bytes) - self._limits.body_bytes)
            until = began + self._limits.body_s + large_bytes / self._limits.large_bytes_per_s
            refusal = await self._read(body, received, until, most_bytes=received.max_bytes)
            if refusal is not None or (body.ended and not received.too_large):
                return refusal
            if not received.too_large:
                self._log("a body that did not arrive in time")
                return problem_answer(HTTPStatus.REQUEST_TIMEOUT, "body_too_slow", TOO_SLOW)
        return problem_answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large", "The body is larger than allowed.")

    async def _read(self, body: RequestBody, received: _Received, until: float, *, most_bytes: int) -> Answer | None:
        """Read until the body ends, has more than `most_bytes`, or the time is up; refuse it when memory is short."""
        while not body.ended and received.size <= most_bytes:
            piece = await body.next_piece(until)
            if piece is None:
                return None
            self._count(received, len(piece))
            received.add(piece)
            if (
                self._buffered_bytes > self._limits.buffered_bytes
                or self._large_bytes > self._limits.large_buffered_bytes
            ):
                return self._busy("too many bodies are being sent")
        return None

    def _count(self, received: _Received, added: int) -> None:
        """Count bytes that are added to a body, or (negative) removed from its end."""
        before, after = (min(size, self._limits.body_bytes) for size in (received.size, received.size + added))
        self._buffered_bytes += after - before
        self._large_bytes += added - (after - before)

    async def _call(
        self, scope: dict[str, Any], stream: BinaryIO, length: int | None, *, again: bool = False
    ) -> Answer | None:
        """Call the app in a thread; None: it wants a body that has not arrived.

        Args:
            again: the app was called for this request before, without its body.
        """
        environ = wsgi_environ(scope, stream, length)
        environ[CALLED_BEFORE] = again
        if self._held is not None:
            environ[HELD] = True
        loop = asyncio.get_running_loop()
        reserved = self._reserved.get(scope["path"])
        if reserved is not None:
            return await loop.run_in_executor(reserved, call_app, self._app, environ)
        if self._running >= self._limits.threads + self._limits.queued:
            return self._busy("too many requests wait for a thread")
        self._running += 1
        try:
            return await loop.run_in_executor(self._threads, call_app, self._app, environ)
        finally:
            self._running -= 1

    def _busy(self, why: str) -> Answer:
        self._log(why)
        return problem_answer(
            HTTPStatus.SERVICE_UNAVAILABLE,
            "busy",
            "The server has too much to do; try again soon.",
            retry_after_s=RETRY_AFTER_S,
        )

    async def _send(self, answer: Answer, body: RequestBody, send: Send) -> None:
        """Send an answer; close the connection if a part of the request's body was not read."""
        await body.drain(self._limits)
        headers = answer.headers
        if not body.ended:
            headers = [(name, value) for name, value in headers if name != b"connection"] + [(b"connection", b"close")]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        more = answer.rest is not None
        await send({"type": "http.response.body", "body": answer.body, "more_body": more})
        if more:
            await self._send_rest(answer, body, send)
        body.forget()

    async def _send_rest(self, answer: Answer, body: RequestBody, send: Send) -> None:
        """Send what follows, block by block, as fast as the client takes it; end when the client has gone."""
        loop = asyncio.get_running_loop()
        gone = asyncio.ensure_future(body.disconnected())
        try:
            while not gone.done():
                block = await loop.run_in_executor(self._threads, next, cast("Any", answer.rest), b"")
                sending = asyncio.ensure_future(
                    _sent(send, {"type": "http.response.body", "body": block, "more_body": bool(block)})
                )
                await asyncio.wait({sending, gone}, timeout=self._limits.stall_s, return_when=asyncio.FIRST_COMPLETED)
                if not sending.done():
                    sending.cancel()
                    self._log("a client that did not take its answer")
                    break
                if not block:
                    break
        finally:
            gone.cancel()
            await loop.run_in_executor(self._threads, answer.close)

    def _log(self, what: str) -> None:
        if self._log_limit.allows(what):
            log.warning("refused (said once a minute): %s", what)


class _Received:
    """What has arrived of a body that the app reads whole."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.size = max_bytes, 0
        self._bytes = bytearray()

    @property
    def too_large(self) -> bool:
        return self.size > self.max_bytes

    def add(self, piece: bytes) -> None:
        self._bytes += piece
        self.size += len(piece)

    def stream(self) -> BinaryIO:
        """Return the body to be read; it is kept no second time."""
        stream = io.BytesIO(self._bytes)
        self._bytes = bytearray()
        return stream


async def _sent(send: Send, message: dict[str, Any]) -> None:
    await send(message)
