"""Faults that callers cause: odd file names in the inbox, slow and silent connections."""

from __future__ import annotations

import contextlib
import random
import socket
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx

from chaos.faults.target import Target

GOOD_FILES = 2
SLOW_BODIES, SILENT, WAITING = 50, 140, 300
# Generous: other work may keep the machine busy. The benchmark of connections measures the times.
ANSWER_TIMEOUT_S = 10.0
WAIT_S = 60


def byte_names(target: Target, rng: random.Random) -> str:
    """Files whose names are no text, too long or odd, dropped into the inbox beside good ones."""
    return target.caller.drop_files(target.inbox, good=GOOD_FILES)


def slow_connections(target: Target, rng: random.Random) -> str:
    """Slow bodies, silent connections and waiting calls together, while `/healthz` and submits must be answered."""
    waited_for = target.caller.submit_one_more() or "job_" + "0" * 32
    slowest = {"/healthz": 0.0, "submit": 0.0}
    with _connections(target.caller.url, waited_for) as dripping:
        deadline = time.monotonic() + target.outage_s
        while time.monotonic() < deadline:
            for connection in dripping:
                with contextlib.suppress(OSError):
                    connection.send(b" ")
            began = time.monotonic()
            if not _healthy(target.caller.url):
                target.report(f"/healthz did not answer within {ANSWER_TIMEOUT_S:g} s beside slow connections")
            slowest["/healthz"] = max(slowest["/healthz"], time.monotonic() - began)
            began = time.monotonic()
            target.caller.submit_one_more()  # one that is never answered is a caller's error in the ledger
            slowest["submit"] = max(slowest["submit"], took := time.monotonic() - began)
            if took > ANSWER_TIMEOUT_S:
                target.report(f"a submit took {took:.1f} s beside slow connections")
            time.sleep(1.0)
    figures = ", ".join(f"{name} {seconds:.2f} s" for name, seconds in slowest.items())
    return f"{SLOW_BODIES} slow bodies, {SILENT} silent, {WAITING} waiting; slowest answers: {figures}"


def _healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=ANSWER_TIMEOUT_S, trust_env=False).is_success
    except httpx.HTTPError:
        return False


@contextlib.contextmanager
def _connections(url: str, job_id: str) -> Iterator[list[socket.socket]]:
    """Open the connections; yield those whose bodies are sent byte by byte."""
    parts = urlsplit(url)
    host = parts.netloc
    body = f"POST /v1/jobs HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: 5000\r\n\r\n{{"
    wait = f"GET /v1/jobs/{job_id}?wait={WAIT_S} HTTP/1.1\r\nHost: {host}\r\n\r\n"
    with contextlib.ExitStack() as stack:

        def connect(first: str) -> list[socket.socket]:
            # The API may refuse a connection, close it or leave it waiting: all of that is its right.
            with contextlib.suppress(OSError):
                connection = stack.enter_context(
                    socket.create_connection((parts.hostname or "", parts.port or 80), timeout=1)
                )
                connection.sendall(first.encode())
                connection.setblocking(False)
                return [connection]
            return []

        dripping = [connection for _ in range(SLOW_BODIES) for connection in connect(body)]
        for _ in range(SILENT):
            connect("")
        for _ in range(WAITING):
            connect(wait)
        yield dripping
