"""Latency of the API's calls on SQLite: `python -m benchmarks.api_latency`.

One client on a kept-alive connection, a real Valkey, no worker. "POST to queued visible" is the submission and a GET
that returns the job as queued. The baseline is `/healthz`: server and framework without any work.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import httpx

from benchmarks.serving import api_server, percentile

ROUNDS = 300
WARM_UP = 20


def main() -> None:
    with api_server() as url, httpx.Client(base_url=url, trust_env=False) as client:
        jobs: list[str] = []

        def submit() -> None:
            job = client.post("/v1/jobs", json={"prompt": "rain"}).raise_for_status().json()
            assert client.get(job["links"]["self"]).json()["state"] == "queued"
            jobs.append(job["id"])

        def status() -> None:
            client.get(f"/v1/jobs/{jobs[-1]}").raise_for_status()

        def page() -> None:
            client.get("/v1/jobs?limit=50").raise_for_status()

        def cancel() -> None:
            client.post(f"/v1/jobs/{jobs.pop()}/cancel").raise_for_status()

        def healthz() -> None:
            client.get("/healthz").raise_for_status()

        base = _measure(healthz)
        print(f"{'call':<28}{'p50 ms':>9}{'p99 ms':>9}{'p50 / healthz':>15}")
        calls: list[tuple[str, Callable[[], None]]] = [
            ("healthz (baseline)", healthz),
            ("POST to queued visible", submit),
            ("status", status),
            ("list of 50", page),
            ("cancel", cancel),
        ]
        for name, call in calls:
            seconds = _measure(call)
            p50 = percentile(seconds, 0.5)
            print(f"{name:<28}{p50:>9.2f}{percentile(seconds, 0.99):>9.2f}{p50 / percentile(base, 0.5):>15.1f}")


def _measure(call: Callable[[], None]) -> list[float]:
    seconds = []
    for number in range(ROUNDS):
        began = time.perf_counter()
        call()
        if number >= WARM_UP:
            seconds.append(time.perf_counter() - began)
    return seconds


if __name__ == "__main__":
    main()
