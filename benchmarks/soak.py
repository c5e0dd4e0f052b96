"""Soak test: ten minutes of seeded random jobs, cancels, and kills, stops and drains of workers, on the embedded parts.

    python -m benchmarks.soak [--seconds N] [--seed N]

Exit status 0: no process's memory grew, no process or file was left, and every job finished as expected. Linux only.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
import psutil

from benchmarks.process_watch import MIB, ProcessWatch
from chaos.processes import Processes
from chaos.services import valkey
from jobs.settings import Settings
from local_services.ports import free_port
from migrations.upgrade import upgrade
from mmaudio_model.demo_video import render_demo_video

READY_TIMEOUT_S, FINISH_TIMEOUT_S = 300.0, 900.0
MAX_UNFINISHED = 12
# Mean seconds between two submissions, two cancels and two disruptions of worker-2.
SUBMIT_INTERVAL_S, CANCEL_INTERVAL_S, DISRUPT_INTERVAL_S = 0.8, 5.0, 35.0
# Growth of a process's floor that a run of ten minutes cannot distinguish from noise.
ALLOWED_MIB_PER_MINUTE = 1.0
PROMPTS = ("rain", "steps on gravel", "a door", "wind in leaves")
TERMINAL = {"succeeded", "failed", "canceled"}
EXPECTED_STATES = {"succeeded", "canceled", "failed media_invalid", "failed run_timeout"}


@dataclass
class Soak:
    """One run against one platform. `worker-1` runs undisturbed; `worker-2` is killed, stopped and drained."""

    client: httpx.Client
    processes: Processes
    rng: random.Random
    videos: list[str] = field(default_factory=list)
    open_jobs: list[str] = field(default_factory=list)
    final_states: Counter[str] = field(default_factory=Counter)
    disruptions: Counter[str] = field(default_factory=Counter)
    submitted: int = 0

    def run(self, seconds: float) -> None:
        """Act at seeded random times until `seconds` have passed."""
        end = time.monotonic() + seconds
        intervals = {self.submit: SUBMIT_INTERVAL_S, self.cancel: CANCEL_INTERVAL_S, self.disrupt: DISRUPT_INTERVAL_S}
        due = {act: time.monotonic() + self.rng.expovariate(1 / mean_s) for act, mean_s in intervals.items()}
        while (now := time.monotonic()) < end:
            act = min(due, key=lambda one: due[one])
            time.sleep(max(0.0, min(due[act], end) - now))
            act()
            due[act] = time.monotonic() + self.rng.expovariate(1 / intervals[act])
            self.remove_finished()

    def submit(self) -> None:
        """Submit a random job, unless enough are unfinished."""
        if len(self.open_jobs) >= MAX_UNFINISHED:
            return
        fields: dict[str, Any] = {
            "prompt": self.rng.choice(PROMPTS),
            "seed": self.rng.randrange(2**31),
            "num_steps": self.rng.randint(2, 25),
            "num_samples": self.rng.choice([1, 1, 1, 2]),
            "audio_format": self.rng.choice(["flac", "wav"]),
            # One in four times out.
            "run_timeout_s": self.rng.choice([600, 600, 600, 1]),
        }
        if self.rng.random() < 0.5:
            fields["video"] = self.rng.choice(self.videos)
        else:
            fields["duration_s"] = round(self.rng.uniform(0.64, 8.0), 2)
        self.open_jobs.append(self.call("POST", "/v1/jobs", json=fields)["id"])
        self.submitted += 1

    def cancel(self) -> None:
        """Cancel a random unfinished job."""
        if self.open_jobs:
            self.call("POST", f"/v1/jobs/{self.rng.choice(self.open_jobs)}/cancel", allowed=(409,))

    def disrupt(self) -> None:
        """Kill, stop or drain worker-2."""
        kind = self.rng.choice(["kill", "stop", "drain"])
        victim = process_of(self.processes.pid("worker-2"))
        if victim is None:
            return
        if kind == "kill":
            os.kill(victim, signal.SIGKILL)
        elif kind == "stop":
            os.kill(self.processes.pid("worker-2"), signal.SIGTERM)
        else:
            ids = [one["id"] for one in self.call("GET", "/v1/workers")["data"] if one["pid"] == victim]
            if not ids:
                return
            self.call("POST", f"/v1/workers/{ids[0]}/drain", allowed=(404, 409))
        self.disruptions[kind] += 1

    def remove_finished(self) -> None:
        """Count and forget the jobs that have finished."""
        for job_id in list(self.open_jobs):
            job = self.call("GET", f"/v1/jobs/{job_id}")
            if job["state"] in TERMINAL:
                self.open_jobs.remove(job_id)
                self.final_states[" ".join(filter(None, (job["state"], (job.get("error") or {}).get("code"))))] += 1

    def wait_until_finished(self) -> None:
        """Wait for the unfinished jobs."""
        deadline = time.monotonic() + FINISH_TIMEOUT_S
        while self.open_jobs and time.monotonic() < deadline:
            time.sleep(0.5)
            self.remove_finished()

    def upload(self, name: str, data: bytes) -> None:
        """Upload a video for the jobs."""
        announced = self.call("POST", "/v1/uploads", json={"filename": name, "size_bytes": len(data)})
        self.client.put(announced["upload"]["url"], content=data).raise_for_status()
        self.videos.append(announced["id"])

    def call(self, method: str, path: str, *, allowed: tuple[int, ...] = (), **more: Any) -> Any:
        """Call the API; return its JSON; raise unless the status is 2xx or `allowed`."""
        answer = self.client.request(method, path, **more)
        if answer.status_code not in allowed:
            answer.raise_for_status()
        return answer.json()


def process_of(supervisor: int) -> int | None:
    """Return the pid of a supervisor's worker process, if it runs."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(supervisor).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "--process-for" in child.cmdline():
                    return int(child.pid)
    return None


@click.command()
@click.option("--seconds", default=600.0, show_default=True, help="How long jobs are submitted.")
@click.option("--seed", default=1, show_default=True, help="Seed of the jobs and the disruptions.")
def main(seconds: float, seed: int) -> None:
    """Run the platform under random load and disruptions; report growing memory and leftovers."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C: every process is stopped
    with tempfile.TemporaryDirectory(prefix="mmaudio-soak-") as name, contextlib.ExitStack() as stack:
        passed = run(Path(name), seconds, seed, stack)
    sys.exit(0 if passed else 1)


def run(folder: Path, seconds: float, seed: int, stack: contextlib.ExitStack) -> bool:
    """Run once in an empty folder; print a report; return whether the run passed."""
    broker = stack.enter_context(valkey(folder / "valkey"))
    port = free_port()
    environment = {
        "MMAUDIO_DATA_DIR": str(folder / "data"),
        "MMAUDIO_SCRATCH_DIR": str(folder / "scratch"),
        "TMPDIR": str(folder / "tmp"),
        "MMAUDIO_BROKER_URL": broker.url,
        "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
        "MMAUDIO_VARIANTS": "tiny_16k",
        "MMAUDIO_LEASE_S": "6",
        "MMAUDIO_HEARTBEAT_S": "2",
        "MMAUDIO_DRAIN_GRACE_S": "5",
        "MMAUDIO_CPU_THREADS": "1",
        "MMAUDIO_MAX_ATTEMPTS": "20",  # no job may fail because its workers were disrupted
        "MMAUDIO_LOG_LEVEL": "WARNING",
    }
    for name in ("data", "scratch", "tmp", "logs"):
        (folder / name).mkdir()
    upgrade(Settings(data_dir=folder / "data").database_url)
    processes = Processes(environment, folder / "logs")
    watch = ProcessWatch(lambda: {**{processes.pid(part): part for part in processes.starts()}, broker.pid: "broker"})
    try:
        for part in ("api", "control"):
            processes.start(part, part)
        for number in (1, 2):
            processes.start(f"worker-{number}", "worker", "--devices", f"cpu:{number - 1}")
        threading.Thread(target=processes.watch, daemon=True).start()
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False))
        _wait_ready(client)
        soak = Soak(client, processes, random.Random(f"soak {seed}"))
        for number, content in enumerate(_videos(folder)):
            soak.upload(f"v{number}.mp4", content)
        watch.start()
        soak.run(seconds)
        soak.wait_until_finished()
        watch.close()
        unfinished = len(soak.open_jobs)
    finally:
        processes.close()
    files = [path for name in ("scratch", "tmp") for path in (folder / name).rglob("*") if path.is_file()]
    drafts = list((folder / "data" / "objects" / "drafts").glob("tmp*"))
    remaining = [line for line in watch.running() if not line.startswith(f"{broker.pid} ")]
    growing = _print_usage(watch, seconds)
    print(f"{soak.submitted} jobs in {seconds:.0f} s: {_counts(soak.final_states)}; unfinished {unfinished}")
    print(
        f"disruptions of worker-2: {_counts(soak.disruptions)}; process starts: {_counts(Counter(processes.starts()))}"
    )
    print(
        f"orphans during the run {len(watch.orphans)}, processes left {len(remaining)}, files left {len(files)}, ",
        end="",
    )
    print(f"drafts left in the store {len(drafts)}")
    for line in (*watch.orphans, *remaining, *files, *drafts):
        print(f"left: {line}")
    return not (
        growing or unfinished or watch.orphans or remaining or files or set(soak.final_states) - EXPECTED_STATES
    )


def _videos(folder: Path) -> list[bytes]:
    """Return three valid videos and a broken one."""
    contents = []
    for number, seconds in enumerate((1.0, 2.0, 5.0)):
        render_demo_video(folder / f"{number}.mp4", seconds=seconds)
        contents.append((folder / f"{number}.mp4").read_bytes())
    return [*contents, contents[0][:3000]]


def _wait_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            if sum(one["state"] == "idle" for one in client.get("/v1/workers").json()["data"]) >= 2:
                return
        time.sleep(0.2)
    raise RuntimeError(f"the workers were not ready within {READY_TIMEOUT_S:g} s")


def _print_usage(watch: ProcessWatch, seconds: float) -> list[str]:
    """Print the usage of every long-lived process; return the names of those whose memory grows."""
    warm_s = seconds / 4
    growing = []
    print("process              ran s   MiB first  warm   last   MiB/minute      floor        open files   threads")
    for usage in sorted(watch.usage.values(), key=lambda one: one.name):
        growth = usage.growth(warm_s)
        if growth is None:
            continue
        warm = next(place for place, at in enumerate(usage.at_s) if at - usage.at_s[0] >= warm_s)
        first, middle, last = (usage.rss[place] / MIB for place in (0, warm, -1))
        ran_s = usage.at_s[-1] - usage.at_s[0]
        print(f"{usage.name:18} {ran_s:7.0f}   {first:9.1f} {middle:6.1f} {last:6.1f}   ", end="")
        print(f"{growth.all:12.2f}   {growth.floor:11.2f}   ", end="")
        print(f"{usage.files[warm]:4} {usage.files[-1]:4}   {usage.threads[warm]:4} {usage.threads[-1]:4}")
        if growth.floor > ALLOWED_MIB_PER_MINUTE:
            growing.append(usage.name)
    return growing


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"


if __name__ == "__main__":
    main()
