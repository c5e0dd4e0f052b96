"""Clients that poll, in processes of their own: kept connections, as little work per answer as Python allows."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import time
from dataclasses import dataclass, field
from functools import partial
from urllib.parse import urlsplit


@dataclass
class Polled:
    """What the clients measured.

    Attributes:
        seconds: of each answer.
        errors: answers other than wanted, and broken connections.
        elapsed_s: how long they polled.
        cpu_s: CPU time that the clients used.
    """

    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    elapsed_s: float = 0.0
    cpu_s: float = 0.0

    @property
    def per_s(self) -> float:
        """Answers per second."""
        return len(self.seconds) / self.elapsed_s


class Connection(asyncio.Protocol):
    """One client: sends a request, waits for the whole answer, pauses, sends the next.

    Args:
        requests: the bytes of the requests, sent in turn.
        wanted: the start of the answers that count.
        every_s: a request is sent this often; 0: as soon as the last is answered.
    """

    def __init__(self, requests: list[bytes], wanted: bytes, every_s: float, until: float) -> None:
        self._requests, self._wanted, self._every_s, self._until = requests, wanted, every_s, until
        self._number, self._began, self._data, self._length = 0, 0.0, b"", -1
        self.seconds: list[float] = []
        self.errors = 0
        self.closed = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        loop = asyncio.get_running_loop()
        self._due = loop.time() + random.random() * self._every_s
        loop.call_at(self._due, self._send)

    def _send(self) -> None:
        if time.perf_counter() >= self._until:
            self._transport.close()
            return
        self._data, self._length = b"", -1
        self._began = time.perf_counter()
        self._transport.write(self._requests[self._number % len(self._requests)])  # type: ignore[attr-defined]
        self._number += 1

    def data_received(self, data: bytes) -> None:
        self._data += data
        if self._length < 0:
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return
            head = self._data[:end].lower()
            at = head.find(b"content-length:")
            body = int(head[at + 15 : head.find(b"\r", at) if head.find(b"\r", at) > 0 else end]) if at > 0 else 0
            self._length = end + 4 + body
        if len(self._data) < self._length:
            return
        if self._data.startswith(self._wanted):
            self.seconds.append(time.perf_counter() - self._began)
        else:
            self.errors += 1
        if self._every_s:
            loop = asyncio.get_running_loop()
            self._due = max(self._due + self._every_s, loop.time())
            loop.call_at(self._due, self._send)
        else:
            self._send()

    def connection_lost(self, _error: Exception | None) -> None:
        if time.perf_counter() < self._until:
            self.errors += 1
        if not self.closed.done():
            self.closed.set_result(None)


def _poll(
    url: str, clients: list[list[bytes]], wanted: bytes, every_s: float, seconds: float
) -> tuple[list[float], int, float]:
    parts = urlsplit(url)

    async def run() -> list[Connection]:
        until = time.perf_counter() + seconds
        loop = asyncio.get_running_loop()
        found = []
        for requests in clients:
            made = partial(Connection, requests, wanted, every_s, until)
            _, one = await loop.create_connection(made, parts.hostname or "", parts.port or 80)
            found.append(one)
        await asyncio.wait([one.closed for one in found], timeout=seconds + 30)
        return found

    before = os.times()
    done = asyncio.run(run())
    after = os.times()
    cpu_s = after.user + after.system - before.user - before.system
    return [one for each in done for one in each.seconds], sum(one.errors for one in done), cpu_s


def poll(
    url: str,
    clients: list[list[bytes]],
    *,
    wanted: bytes = b"HTTP/1.1 200 ",
    every_s: float = 0.0,
    seconds: float = 10.0,
    processes: int = 2,
) -> Polled:
    """Let clients send their requests for some seconds, from other processes.

    Args:
        clients: the requests of each client.
    """
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(processes) as pool:
        pool.map(abs, range(processes))  # they have started
        parts = [clients[number::processes] for number in range(processes)]
        began = time.perf_counter()
        found = pool.starmap(_poll, [(url, part, wanted, every_s, seconds) for part in parts if part])
        total = Polled(elapsed_s=min(seconds, time.perf_counter() - began))
    for one_seconds, errors, cpu_s in found:
        total.seconds += one_seconds
        total.errors += errors
        total.cpu_s += cpu_s
    return total


def request_bytes(method: str, path: str, body: bytes = b"") -> bytes:
    """Return a request."""
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return head.encode() + b"\r\n" + body
