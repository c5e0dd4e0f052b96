"""Reading the status of jobs on PostgreSQL: `python -m benchmarks.status_reads [--seconds N] [--rounds N]`.

1. 50 clients poll 500 jobs, each job once in `--every` seconds, while jobs are submitted at 20 a second. Wanted: p99 of
   both at most 100 ms, no error.
2. 50 clients read as fast as they are answered; the API and a bare Flask app with one SELECT (`bare_flask`) by turns,
   behind the same server. Wanted: at least 70 % of its answers per second, for jobs of each state.

A fifth of the jobs are running, two fifths have succeeded with two artifacts each, two fifths are queued; no worker
runs. The clients are in two other processes. That they are not the bottleneck shows the row `constant`: the same
clients, server and cores with a view that does nothing. `server ms` is the CPU time of the server's process for each
answer, which other programs on the machine disturb least.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping

import httpx
import psutil

from benchmarks.poll_clients import Polled, poll, request_bytes
from benchmarks.serving import api_server, percentile, postgres_environment, wait_until_ready
from jobs.db.database import Database
from jobs.lifecycle import ArtifactKind
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.workers import register_worker
from local_services.ports import free_port

JOBS = 500
CLIENTS = 50
SUBMITS_PER_S = 20
WANTED_MS = 100
WANTED_SHARE = 0.7
REQUEST = {"prompt": "rain on a tin roof", "duration_s": 8, "metadata": {"scene": "12"}}


def _artifact(job_id: str, number: int) -> NewArtifact:
    return NewArtifact(
        name=f"audio_{number}.flac", kind=ArtifactKind.AUDIO, format="flac", content_type="audio/flac",
        storage_key=f"jobs/{job_id}/1/audio_{number}.flac", size_bytes=500_000, sha256="a" * 64, duration_s=8.0,
        take=number, seed=number,
    )  # fmt: skip


def make_jobs(url: str, database_url: str) -> dict[str, list[str]]:
    """Submit the jobs and bring them into their states; return their ids by state."""
    db = Database(database_url).of_platform()
    with httpx.Client(base_url=url, trust_env=False) as client:
        ids = [client.post("/v1/jobs", json=REQUEST).raise_for_status().json()["id"] for _ in range(JOBS)]
    parts = {
        "queued": ids[: JOBS * 2 // 5],
        "running": ids[JOBS * 2 // 5 : JOBS * 3 // 5],
        "succeeded": ids[JOBS * 3 // 5 :],
    }
    with db.transaction() as tx:
        register_worker(tx, worker_id="w", hostname="h", pid=1, device="cpu:0", slots=0, variants=["tiny_16k"])
    for state in ("running", "succeeded"):
        for job_id in parts[state]:
            with db.transaction() as tx:
                claim = attempts.claim(tx, job_id, worker_id="w", lease_s=36_000)
            assert claim is not None
            if state == "succeeded":
                with db.transaction() as tx:
                    attempts.complete(
                        tx, claim, [_artifact(job_id, 0), _artifact(job_id, 1)], warnings=[],
                        timings={"sample_s": 1.5, "total_s": 3.0}, artifact_ttl_s=36_000,
                    )  # fmt: skip
    db.close()
    return parts


@contextlib.contextmanager
def bare_server(environment: Mapping[str, str]) -> Iterator[str]:
    """Serve the bare app on the same database; yield its URL."""
    port = free_port()
    settings = {"MMAUDIO_API_BIND": f"127.0.0.1:{port}", "MMAUDIO_VARIANTS": "tiny_16k", **environment}
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.bare_flask"], env={**os.environ, **settings})
    url = f"http://127.0.0.1:{port}"
    try:
        wait_until_ready(url, process)
        yield url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _reads(ids: list[str]) -> list[list[bytes]]:
    requests = [request_bytes("GET", f"/v1/jobs/{job_id}") for job_id in ids]
    return [requests[number::CLIENTS] for number in range(CLIENTS)]


class ServerCpu:
    """CPU time of the process that answers: the youngest below the one that listens on the port."""

    def __init__(self, url: str) -> None:
        port = int(url.rpartition(":")[2])
        listening = [
            process
            for process in psutil.Process().children(recursive=True)
            if any(one.laddr.port == port for one in process.net_connections("tcp") if one.status == "LISTEN")
        ]
        self._process = listening[-1]

    def seconds(self) -> float:
        """Return the CPU time used until now."""
        used = self._process.cpu_times()
        return float(used.user + used.system)


def _row(title: str, polled: Polled, server_s: float | None = None) -> None:
    times = [percentile(polled.seconds, share) if polled.seconds else 0.0 for share in (0.5, 0.99)]
    cpu = polled.cpu_s / polled.elapsed_s * 100
    server = f"{server_s / len(polled.seconds) * 1000:>10.2f}" if server_s is not None and polled.seconds else ""
    print(
        f"{title:<34}{polled.per_s:>10.0f}{times[0]:>9.1f}{times[1]:>9.1f}{polled.errors:>8}{cpu:>12.0f}{server}",
        flush=True,
    )


def _paced(url: str, ids: list[str], every_s: float, seconds: float) -> bool:
    """Poll at a pace while jobs are submitted; return whether it was as wanted."""
    poll(url, _reads(ids), seconds=seconds / 4)  # as after their submits: each job was read before
    submits: list[Polled] = []
    posts = [[request_bytes("POST", "/v1/jobs", json.dumps(REQUEST).encode())] for _ in range(4)]

    def submit() -> None:
        submits.append(
            poll(url, posts, wanted=b"HTTP/1.1 202 ", every_s=len(posts) / SUBMITS_PER_S, seconds=seconds, processes=1)
        )

    thread = threading.Thread(target=submit)
    thread.start()
    reads = poll(url, _reads(ids), every_s=every_s * CLIENTS / len(ids), seconds=seconds)
    thread.join()
    _row(f"status, each job every {every_s:g} s", reads)
    _row("submits beside them", submits[0])
    return all(not one.errors and percentile(one.seconds, 0.99) <= WANTED_MS for one in (reads, submits[0]))


def _median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="alternating rounds of the comparison")
    parser.add_argument("--every", type=float, default=2.0, help="seconds between two polls of a job")
    options = parser.parse_args()
    with contextlib.ExitStack() as stack:
        environment = stack.enter_context(postgres_environment())
        url = stack.enter_context(api_server(environment=environment))
        parts = make_jobs(url, environment["MMAUDIO_DATABASE_URL"])
        bare = stack.enter_context(bare_server(environment))
        load = ", ".join(f"{value:.1f}" for value in psutil.getloadavg())
        print(f"{psutil.cpu_count()} cores, load before {load}")
        print(f"{'':<34}{'answers/s':>10}{'p50 ms':>9}{'p99 ms':>9}{'errors':>8}{'client %CPU':>12}{'server ms':>10}")
        paced = _paced(url, [one for ids in parts.values() for one in ids], options.every, options.seconds * 2)
        constant = [[request_bytes("GET", "/constant")] for _ in range(CLIENTS)]
        _row("constant, bare Flask", poll(bare, constant, seconds=options.seconds))
        shares = []
        mixed = [ids[number] for number in range(JOBS) for ids in parts.values() if number < len(ids)]
        servers = {"api": (url, ServerCpu(url)), "bare": (bare, ServerCpu(bare))}
        for title, ids in {**parts, "all": mixed}.items():
            rates: dict[str, list[float]] = {"api": [], "bare": []}
            costs: dict[str, list[float]] = {"api": [], "bare": []}
            for number in range(options.rounds):
                for name, (server, cpu) in servers.items():
                    before = cpu.seconds()
                    polled = poll(server, _reads(ids), seconds=options.seconds)
                    used = cpu.seconds() - before
                    rates[name].append(polled.per_s)
                    costs[name].append(used / max(1, len(polled.seconds)))
                    if number == options.rounds - 1:
                        _row(f"{title}: {name}", polled, used)
            share, cost = (_median(one["api"]) / _median(one["bare"]) for one in (rates, costs))
            shares.append(share)
            print(
                f"  {title}: {share:.0%} of the bare app's answers, {cost:.2f} times its CPU time (medians)", flush=True
            )
    print(f"wanted: p99 at most {WANTED_MS} ms without an error: {'yes' if paced else 'NO'}")
    print(f"wanted: at least {WANTED_SHARE:.0%} of the bare app: {'yes' if min(shares) >= WANTED_SHARE else 'NO'}")


if __name__ == "__main__":
    main()
