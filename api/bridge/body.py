"""Reads the body of a request: in the event loop, or for an upload from a request thread while it arrives."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from werkzeug.exceptions import ClientDisconnected, RequestTimeout

from api.bridge.limits import BridgeLimits

Receive = Callable[[], Awaitable[dict[str, Any]]]
TOO_SLOW = "The body did not arrive in time; send it again on a faster connection."
CUT_SHORT = "The connection ended before the whole body had arrived."


class BodyCutError(Exception):
    """Raised when the connection ends within the body."""


class BodyWanted(BaseException):
    """Raised where the app reads a body that has not arrived yet."""


class RequestBody:
    """The body of one request, as the event loop gets it.

    Attributes:
        declared: the value of Content-Length; None: there is none.
        ended: nothing more comes.
    """

    def __init__(self, receive: Receive, headers: list[tuple[bytes, bytes]]) -> None:
        names = {name.lower(): value for name, value in headers}
        length = names.get(b"content-length", b"")
        self.declared = int(length) if length.isdigit() else None
        self.ended = not self.declared and b"transfer-encoding" not in names
        self.waits_for_continue = b"expect" in names
        self._receive = receive
        self._pending: asyncio.Future[dict[str, Any]] | None = None
        self._received = 0

    async def next_piece(self, until: float) -> bytes | None:
        """Return the next bytes, b"" at the end; None when none came until that time of the loop.

        Raises:
            BodyCutError: the connection ended first.
        """
        if self.ended:
            return b""
        loop = asyncio.get_running_loop()
        if self._pending is None:
            self._pending = asyncio.ensure_future(self._receive())
        # Not cancelled by a timeout: a piece that had just arrived would be lost.
        await asyncio.wait({self._pending}, timeout=max(0.0, until - loop.time()))
        if not self._pending.done():
            return None
        message, self._pending = self._pending.result(), None
        if message["type"] != "http.request":
            self.ended = True
            raise BodyCutError
        piece = bytes(message.get("body", b""))
        self._received += len(piece)
        self.ended = not message.get("more_body", False) or self._received == self.declared
        return piece

    async def drain(self, limits: BridgeLimits) -> None:
        """Read and drop a small rest, so that the connection can be used for another request."""
        left, until = limits.drain_bytes, asyncio.get_running_loop().time() + limits.drain_s
        if self.ended or self.waits_for_continue or (self.declared or 0) > left:
            return
        with suppress(BodyCutError):
            while not self.ended and left > 0:
                piece = await self.next_piece(until)
                if piece is None:
                    return
                left -= len(piece)

    async def disconnected(self) -> None:
        """Return when the client has gone."""
        if self._pending is not None:
            await self._pending
        while (await self._receive())["type"] != "http.disconnect":
            pass

    def forget(self) -> None:
        """Stop waiting for more."""
        if self._pending is not None:
            self._pending.cancel()
            self._pending = None


class UnreadBody(io.RawIOBase):
    """Stands for a body that has not arrived: who reads it learns so by `BodyWanted`."""

    def readable(self) -> bool:
        return True

    def readinto(self, _buffer: Any) -> int:
        raise BodyWanted


class StreamedBody(io.RawIOBase):
    """Reads a body from a request thread while it arrives.

    Raises (when it is read):
        RequestTimeout: nothing came for `stall_s`, or too little on average.
        ClientDisconnected: the connection ended within the body.
    """

    def __init__(self, body: RequestBody, loop: asyncio.AbstractEventLoop, limits: BridgeLimits) -> None:
        self._body, self._loop, self._limits = body, loop, limits
        self._rest = memoryview(b"")
        self._began: float | None = None
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._rest:
            try:
                piece = asyncio.run_coroutine_threadsafe(self._next(), self._loop).result()
            except BodyCutError as exc:
                raise ClientDisconnected(CUT_SHORT) from exc
            if piece is None:
                raise RequestTimeout(TOO_SLOW)
            self._rest = memoryview(piece)
        count = min(len(buffer), len(self._rest))
        buffer[:count] = self._rest[:count]
        self._rest = self._rest[count:]
        return count

    async def _next(self) -> bytes | None:
        """Return the next bytes, b"" at the end, None when the client is too slow."""
        if self._began is None:
            self._began = self._loop.time()
        while not self._body.ended:
            # Whoever sends at the slowest allowed rate has sent what he sent by this time.
            due = self._began + self._limits.stall_s + self._received / self._limits.upload_bytes_per_s
            piece = await self._body.next_piece(min(self._loop.time() + self._limits.stall_s, due))
            if piece is None:
                return None
            self._received += len(piece)
            if piece:
                return piece
        return b""
