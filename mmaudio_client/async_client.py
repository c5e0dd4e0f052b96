"""The client for programs with an event loop."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Self

import httpx

from mmaudio_client.calls.client_calls import ClientCalls
from mmaudio_client.connection import address_and_key, open_async_http
from mmaudio_client.driver import EventLoopDriver
from mmaudio_client.transport import Transport


class AsyncClient(ClientCalls):
    """A connection to one platform for asyncio and trio: the methods of `Client`, as coroutines and asynchronous
    iterators. An asynchronous context manager.

    Args, raises: as `Client`; `transport` and `sleep` are asynchronous.
    """

    def __init__(
        self,
        base_url: str | None = None,
        *,
        api_key: str | None = None,
        timeout_s: float = 30.0,
        patience_s: float | None = None,
        wait_for_server: bool = True,
        on_outage: Callable[[str], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        address, key = address_and_key(base_url, api_key)
        http = open_async_http(address, api_key=key, timeout_s=timeout_s, transport=transport)
        calls = Transport(
            EventLoopDriver(http, sleep),
            clock=clock,
            patience_s=patience_s,
            wait_for_server=wait_for_server,
            on_outage=on_outage,
        )
        super().__init__(calls, timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._transport.driver.close()
