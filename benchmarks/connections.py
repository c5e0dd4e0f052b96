"""What other connections do to `/healthz` and to submits: `python -m benchmarks.connections`.

Each load is held while one client measures both calls by turns, each on a new connection. Wanted: p99 of at most one
second, no failure. The baseline is no load. The load generator runs on the same cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import httpx

from benchmarks.serving import api_server, percentile
from local_services.stalling_proxy import stalling_proxy

ROUNDS = 150
WANTED_MS = 1000
TIMEOUT_S = 10.0
REQUEST = {"prompt": "rain"}


@dataclass
class Target:
    """The server, one or more of its jobs, and uploads that are announced and not sent."""

    url: str
    job_path: str
    upload_ids: list[str] = field(default_factory=list)
    upload_urls: list[str] = field(default_factory=list)
    job_paths: list[str] = field(default_factory=list)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port."""
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 80)


Load = Callable[[Target, int], Awaitable[None]]


async def _open(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(*target.address)


async def silent(target: Target, _: int) -> None:
    """Connect and say nothing; again when the server has closed."""
    reader, _writer = await _open(target)
    await reader.read()


async def idle(target: Target, _: int) -> None:
    """Ask once and keep the connection."""
    reader, writer = await _open(target)
    writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
    await reader.read()


async def slow_body(target: Target, number: int) -> None:
    """Announce a body and send a byte every half a second: half of them JSON, half uploads."""
    reader, writer = await _open(target)
    head = "POST /v1/jobs HTTP/1.1\r\nContent-Type: application/json"
    if number % 2:
        head = f"PUT {target.upload_urls[number % len(target.upload_urls)]} HTTP/1.1"
    writer.write(f"{head}\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n".encode())
    answered = asyncio.ensure_future(reader.read(1))
    while not answered.done():
        writer.write(b" ")
        await writer.drain()
        await asyncio.wait({answered}, timeout=0.5)
    writer.close()
    await asyncio.sleep(1)


async def waiting(target: Target, _: int) -> None:
    """Wait for a job; again when the server says so."""
    reader, writer = await _open(target)
    writer.write(f"GET {target.job_path}?wait=60 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
    answer = await reader.read()
    writer.close()
    later = [line for line in answer.split(b"\r\n") if line.lower().startswith(b"retry-after:")]
    if later:
        await asyncio.sleep(float(later[0].split(b":")[1]))


async def pending_upload(target: Target, number: int) -> None:
    """Submit a job for an upload that has to be looked up in the store; again as the server says."""
    reader, writer = await _open(target)
    body = f'{{"video": "{target.upload_ids[number % len(target.upload_ids)]}"}}'
    head = "POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nConnection: close"
    writer.write(f"{head}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode())
    await reader.read()
    writer.close()
    await asyncio.sleep(5)


LOADS: list[tuple[str, Load | None, int]] = [
    ("none", None, 0),
    ("silent connections", silent, 140),
    ("idle keep-alive connections", idle, 500),
    ("slow bodies", slow_body, 50),
    ("?wait=60", waiting, 300),
]
STORE_LOADS: list[tuple[str, Load | None, int]] = [
    ("submits naming a pending upload, store hangs", pending_upload, 100)
]


@contextlib.contextmanager
def held(load: Load | None, count: int, target: Target) -> Iterator[None]:
    """Keep `count` clients of a load going while the block runs."""
    if load is None:
        yield
        return
    ended = threading.Event()

    async def repeat(number: int) -> None:
        while True:
            with contextlib.suppress(OSError):
                await load(target, number)
            await asyncio.sleep(0.1)

    async def keep() -> None:
        clients = [asyncio.ensure_future(repeat(number)) for number in range(count)]
        await asyncio.to_thread(ended.wait)
        for one in clients:
            one.cancel()
        await asyncio.gather(*clients, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(keep(),), daemon=True)
    thread.start()
    time.sleep(2)
    try:
        yield
    finally:
        ended.set()
        thread.join()


@dataclass
class Measured:
    """Seconds of the calls that were answered as they should be, and how many were not."""

    seconds: list[float] = field(default_factory=list)
    failures: int = 0

    def call(self, wanted: int, method: str, url: str, **options: Any) -> None:
        """Make a call on a new connection."""
        began = time.perf_counter()
        try:
            status = httpx.request(method, url, timeout=TIMEOUT_S, trust_env=False, **options).status_code
        except httpx.HTTPError:
            status = 0
        if status == wanted:
            self.seconds.append(time.perf_counter() - began)
        else:
            self.failures += 1

    def row(self) -> str:
        """Return p50, p99 and failures."""
        if not self.seconds:
            return f"{'-':>9}{'-':>9}{self.failures:>9}"
        return f"{percentile(self.seconds, 0.5):>9.1f}{percentile(self.seconds, 0.99):>9.1f}{self.failures:>9}"

    @property
    def is_wanted(self) -> bool:
        """Whether every call was answered and nearly all in time."""
        return not self.failures and percentile(self.seconds, 0.99) <= WANTED_MS


def _measure(name: str, load: Load | None, count: int, target: Target) -> bool:
    health, submits = Measured(), Measured()
    with held(load, count, target):
        for _ in range(ROUNDS):
            health.call(200, "GET", f"{target.url}/healthz")
            submits.call(202, "POST", f"{target.url}/v1/jobs", json=REQUEST)
            time.sleep(0.01)
    title = f"{count} {name}" if count else name
    print(f"{title:<50}{health.row()}{submits.row()}", flush=True)
    return health.is_wanted and submits.is_wanted


def _target(url: str) -> Target:
    job = httpx.post(f"{url}/v1/jobs", json=REQUEST).raise_for_status().json()
    target = Target(url, job["links"]["self"])
    for _ in range(20):
        announced = httpx.post(f"{url}/v1/uploads", json={"filename": "a.mp4", "size_bytes": 1000}).json()
        target.upload_ids.append(announced["id"])
        target.upload_urls.append(announced["upload"]["url"])
    return target


def main() -> None:
    print(f"{'':<50}{'/healthz':^27}{'submit':^27}")
    print(f"{'load':<50}" + f"{'p50 ms':>9}{'p99 ms':>9}{'failures':>9}" * 2)
    wanted = True
    with api_server() as url:
        target = _target(url)
        for name, load, count in LOADS:
            wanted &= _measure(name, load, count, target)
    with stalling_proxy(("127.0.0.1", 9)) as store:
        store.stall()
        environment = {
            "MMAUDIO_STORAGE_URL": "s3://bucket",
            "MMAUDIO_S3_ENDPOINT_URL": f"http://127.0.0.1:{store.port}",
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        with api_server(environment=environment) as url:
            target = _target(url)
            for name, load, count in STORE_LOADS:
                wanted &= _measure(name, load, count, target)
    print(f"wanted: p99 at most {WANTED_MS} ms, no failure: {'yes' if wanted else 'NO'}")


if __name__ == "__main__":
    main()
