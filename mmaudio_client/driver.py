"""How requests are sent and pauses are made: in the calling thread, or in an event loop.

The client's calls are coroutines, written once. With `BlockingDriver` none of their steps ever suspends, so
`mmaudio_client.blocking` can run them to their end without an event loop.
"""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, TypeVar

import httpx
from httpx_sse import EventSource, ServerSentEvent

T = TypeVar("T")


class Driver(Protocol):
    """Sends requests to one server."""

    @property
    def base_url(self) -> httpx.URL: ...

    @property
    def is_closed(self) -> bool: ...

    async def request(self, method: str, url: str | httpx.URL, **options: Any) -> httpx.Response:
        """Send a request and read its answer whole; `options` are those of httpx, `content` an iterator of bytes."""
        ...

    def stream(self, method: str, url: str, **options: Any) -> AbstractAsyncContextManager[httpx.Response]:
        """Send a request whose answer is read with `read`, `chunks` or `server_sent_events`."""
        ...

    async def read(self, answer: httpx.Response) -> None:
        """Read the rest of a streamed answer into it."""
        ...

    def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        """Yield the bytes of a streamed answer as they come."""
        ...

    def server_sent_events(self, answer: httpx.Response) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield the events of a streamed answer as they come."""
        ...

    async def sleep(self, seconds: float) -> None: ...

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        """Run a function that takes long, such as one that reads a file."""
        ...

    async def close(self) -> None: ...


class BlockingDriver:
    """Sends requests in the calling thread."""

    def __init__(self, http: httpx.Client, sleep: Callable[[float], None] = time.sleep) -> None:
        self._http, self._sleep = http, sleep

    @property
    def base_url(self) -> httpx.URL:
        return self._http.base_url

    @property
    def is_closed(self) -> bool:
        return self._http.is_closed

    async def request(self, method: str, url: str | httpx.URL, **options: Any) -> httpx.Response:
        return self._http.request(method, url, **options)

    @asynccontextmanager
    async def stream(self, method: str, url: str, **options: Any) -> AsyncIterator[httpx.Response]:
        with self._http.stream(method, url, **options) as answer:
            yield answer

    async def read(self, answer: httpx.Response) -> None:
        answer.read()

    async def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        for chunk in answer.iter_bytes():
            yield chunk

    async def server_sent_events(self, answer: httpx.Response) -> AsyncGenerator[ServerSentEvent, None]:
        for event in EventSource(answer).iter_sse():
            yield event

    async def sleep(self, seconds: float) -> None:
        self._sleep(seconds)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments)

    async def close(self) -> None:
        self._http.close()


class EventLoopDriver:
    """Sends requests in the running event loop (asyncio or trio)."""

    def __init__(self, http: httpx.AsyncClient, sleep: Callable[[float], Awaitable[None]] | None = None) -> None:
        self._http, self._sleep = http, sleep

    @property
    def base_url(self) -> httpx.URL:
        return self._http.base_url

    @property
    def is_closed(self) -> bool:
        return self._http.is_closed

    async def request(self, method: str, url: str | httpx.URL, **options: Any) -> httpx.Response:
        if isinstance(content := options.get("content"), Iterator):
            options["content"] = _in_threads(content)
        return await self._http.request(method, url, **options)

    def stream(self, method: str, url: str, **options: Any) -> AbstractAsyncContextManager[httpx.Response]:
        return self._http.stream(method, url, **options)

    async def read(self, answer: httpx.Response) -> None:
        await answer.aread()

    def chunks(self, answer: httpx.Response) -> AsyncIterator[bytes]:
        return answer.aiter_bytes()

    def server_sent_events(self, answer: httpx.Response) -> AsyncGenerator[ServerSentEvent, None]:
        return EventSource(answer).aiter_sse()

    async def sleep(self, seconds: float) -> None:
        if self._sleep is not None:
            await self._sleep(seconds)
            return
        import anyio  # here: the `mmaudio` command, which needs none, starts 40 ms sooner

        await anyio.sleep(seconds)

    async def run(self, function: Callable[..., T], *arguments: Any) -> T:
        return await in_thread(lambda: function(*arguments))

    async def close(self) -> None:
        await self._http.aclose()


async def _in_threads(content: Iterator[bytes]) -> AsyncIterator[bytes]:
    """Yield what an iterator yields; it reads a file, which must not hold up the event loop."""
    while (chunk := await in_thread(lambda: next(content, b""))) != b"":
        yield chunk


async def in_thread(function: Callable[[], T]) -> T:
    """Run a function in a thread of its own."""
    import anyio.to_thread

    return await anyio.to_thread.run_sync(function)
