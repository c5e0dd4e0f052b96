"""Calls while thousands of clients wait: `python -m benchmarks.open_connections [--postgres]`.

2,000 `?wait=60` calls, 2,000 event streams (half of one job each, half of all jobs), 500 idle and 100 slow-body
connections are open together, held by other processes. Meanwhile one client calls `/healthz` and submits jobs by
turns, each on a new connection; each submit is an event for 1,000 streams. Wanted: at most 100 ms at the median, no
failure, and every held connection still open. The clients run on the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import multiprocessing
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.synchronize import Event
from typing import Any

import httpx
import psutil

from benchmarks.connections import ROUNDS, Load, Measured, Target, idle, slow_body
from benchmarks.serving import api_server, percentile, postgres_environment

WANTED_MS = 100
JOBS = 200
REQUEST = {"prompt": "rain"}
OPENED_PER_S = 200


async def _request(target: Target, path: str, accept: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(*target.address)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
    await writer.drain()
    return reader, writer


async def waiting(target: Target, number: int) -> None:
    """Wait for a job that does not end; again when the time is up."""
    path = target.job_paths[number % len(target.job_paths)]
    reader, writer = await _request(target, f"{path}?wait=60", "application/json")
    status = await reader.readline()
    writer.close()
    if b" 200 " not in status:
        raise OSError(status)


async def _stream(target: Target, path: str) -> None:
    reader, writer = await _request(target, path, "text/event-stream")
    try:
        status = await reader.readline()
        if b" 200 " not in status:
            raise OSError(status)
        while await reader.read(65_536):
            pass
        raise OSError("the stream ended")
    finally:
        writer.close()


async def job_stream(target: Target, number: int) -> None:
    """Stream the events of a job."""
    await _stream(target, f"{target.job_paths[number % len(target.job_paths)]}/events")


async def full_stream(target: Target, _: int) -> None:
    """Stream the events of all jobs."""
    await _stream(target, "/v1/events?after=latest")


LOADS: list[tuple[str, Load, int]] = [
    ("?wait=60", waiting, 2000),
    ("streams of a job", job_stream, 1000),
    ("streams of all jobs", full_stream, 1000),
    ("idle connections", idle, 500),
    ("slow bodies", slow_body, 100),
]


@dataclass
class Held:
    """Connections that another process holds.

    Attributes:
        failures: how many connections the server ended other than it should; counted by that process.
    """

    name: str
    count: int
    process: Any
    opened: Event
    stop: Event
    failures: Any


def _hold(load: Load, count: int, target: Target, opened: Event, stop: Event, failures: Any) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)

    async def repeat(number: int) -> None:
        while True:
            try:
                await load(target, number)
            except OSError:
                failures.value += 1
                await asyncio.sleep(1)

    async def keep() -> None:
        tasks = []
        for number in range(count):
            tasks.append(asyncio.ensure_future(repeat(number)))
            await asyncio.sleep(1 / OPENED_PER_S)
        opened.set()
        await asyncio.to_thread(stop.wait)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(keep())


@contextlib.contextmanager
def held(loads: list[tuple[str, Load, int]], target: Target) -> Iterator[list[Held]]:
    """Let other processes hold the connections while the block runs."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    holders = []
    for name, load, count in loads:
        opened, failures = spawn.Event(), spawn.Value("i", 0)
        process = spawn.Process(target=_hold, args=(load, count, target, opened, stop, failures), daemon=True)
        process.start()
        holders.append(Held(name, count, process, opened, stop, failures))
        if not opened.wait(count / OPENED_PER_S * 10 + 60):
            raise RuntimeError(f"{name}: {count} connections were not open in time")
    try:
        yield holders
    finally:
        stop.set()
        for holder in holders:
            holder.process.join(20)


def _measure(target: Target, rounds: int) -> tuple[Measured, Measured]:
    health, submits = Measured(), Measured()
    for _ in range(rounds):
        health.call(200, "GET", f"{target.url}/healthz")
        submits.call(202, "POST", f"{target.url}/v1/jobs", json=REQUEST)
        time.sleep(0.01)
    return health, submits


def _server() -> psutil.Process:
    """Return the server's process that answers: the child of granian's main one."""
    found = [
        process
        for process in psutil.Process().children(recursive=True)
        if "mmaudio_client" in " ".join(process.cmdline()) or "granian" in process.name()
    ]
    return found[-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--postgres", action="store_true", help="PostgreSQL instead of SQLite")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(postgres_environment()) if options.postgres else {}
        url = stack.enter_context(api_server(environment=environment))
        target = _target(url)
        print(f"{'':<36}{'/healthz':^27}{'submit':^27}{'server':>10}")
        print(f"{'open connections':<36}" + f"{'p50 ms':>9}{'p99 ms':>9}{'failures':>9}" * 2 + f"{'MiB':>10}")
        medians = []
        for title, loads in [("none", []), ("all of them", LOADS)]:
            with held(loads, target) as holders:
                server = _server()
                health, submits = _measure(target, options.rounds)
                memory = server.memory_info().rss / 2**20
                print(f"{title:<36}{health.row()}{submits.row()}{memory:>10.0f}", flush=True)
                for holder in holders:
                    print(f"  {holder.count} {holder.name}: {holder.failures.value} ended by the server")
                medians = [percentile(one.seconds, 0.5) for one in (health, submits)]
    print(f"wanted: median at most {WANTED_MS} ms: {'yes' if max(medians) <= WANTED_MS else 'NO'}")


def _target(url: str) -> Target:
    target = Target(url, "")
    with httpx.Client(base_url=url, trust_env=False) as client:
        for _ in range(JOBS):
            job = client.post("/v1/jobs", json=REQUEST).raise_for_status().json()
            target.job_paths.append(job["links"]["self"])
        for _ in range(20):
            announced = client.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": 1000}).json()
            target.upload_urls.append(announced["upload"]["url"])
    return target


if __name__ == "__main__":
    main()
