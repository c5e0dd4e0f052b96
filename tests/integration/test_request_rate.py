"""Requests a minute are counted in a real server, shared by processes, and not at all while it is away."""

from __future__ import annotations

import time

from api.limits.request_rate import TIMEOUT_S, RequestRate
from local_services.ports import free_port


def test_two_processes_count_in_one_server(broker_url: str) -> None:
    first, second = (RequestRate.in_broker(lambda: broker_url) for _ in range(2))
    while time.time() % 60 > 55:  # not over the end of a minute
        time.sleep(0.5)
    name = f"tenant:{time.time()}"
    standings = [one.count(name, 6) for _ in range(4) for one in (first, second)]
    assert [standing is not None and standing.allowed for standing in standings] == [True] * 6 + [False] * 2


def test_a_server_that_is_away_refuses_nothing_and_is_called_once() -> None:
    port = free_port()
    rate = RequestRate.in_broker(lambda: f"redis://127.0.0.1:{port}/0")
    began = time.monotonic()
    assert [rate.count("tenant:a", 1) for _ in range(50)] == [None] * 50
    assert time.monotonic() - began < 20 * TIMEOUT_S
