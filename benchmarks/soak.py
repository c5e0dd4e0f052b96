"""Ten minutes of everything at once on the embedded parts, drawn from a seed: jobs of all kinds, cancels, workers that
are killed, stopped and drained. Then: does memory grow, is a process or a file left, has every job ended?

`python -m benchmarks.soak [--seconds N] [--seed N]`; status 0 when the answers are no, no, no and yes. Linux.
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
from chaos.services import free_port, valkey
from jobs.settings import Settings
from migrations.upgrade import upgrade
from mmaudio_model.demo_video import render_demo_video

READY_WITHIN_S, END_WITHIN_S = 300.0, 900.0
UNFINISHED = 12
# Of the time between two requests, between two cancels, and between two ends of worker-2. Seconds.
SUBMIT_EVERY_S, CANCEL_EVERY_S, HURT_EVERY_S = 0.8, 5.0, 35.0
# Growth of a process's floor that is no growth: what a run of ten minutes cannot tell from noise.
ALLOWED_MIB_A_MINUTE = 1.0
PROMPTS = ("rain", "steps on gravel", "a door", "wind in leaves")
TERMINAL = {"succeeded", "failed", "canceled"}
RIGHT_ENDS = {"succeeded", "canceled", "failed media_invalid", "failed run_timeout"}


@dataclass
class Soak:
    """One run against one platform. `worker-1` lives through it; `worker-2` is hurt again and again."""

    client: httpx.Client
    processes: Processes
    rng: random.Random
    videos: list[str] = field(default_factory=list)
    open_jobs: list[str] = field(default_factory=list)
    ends: Counter[str] = field(default_factory=Counter)
    hurts: Counter[str] = field(default_factory=Counter)
    submitted: int = 0

    def run(self, seconds: float) -> None:
        """Do what the seed says until the time is over."""
        end = time.monotonic() + seconds
        plans = {self.submit: SUBMIT_EVERY_S, self.cancel: CANCEL_EVERY_S, self.hurt: HURT_EVERY_S}
        due = {act: time.monotonic() + self.rng.expovariate(1 / every_s) for act, every_s in plans.items()}
        while (now := time.monotonic()) < end:
            act = min(due, key=lambda one: due[one])
            time.sleep(max(0.0, min(due[act], end) - now))
            act()
            due[act] = time.monotonic() + self.rng.expovariate(1 / plans[act])
            self.forget_ended()

    def submit(self) -> None:
        if len(self.open_jobs) >= UNFINISHED:
            return
        fields: dict[str, Any] = {
            "prompt": self.rng.choice(PROMPTS),
            "seed": self.rng.randrange(2**31),
            "num_steps": self.rng.randint(2, 25),
            "num_samples": self.rng.choice([1, 1, 1, 2]),
            "audio_format": self.rng.choice(["flac", "wav"]),
            # Now and then one that is too short for anybody.
            "run_timeout_s": self.rng.choice([600, 600, 600, 1]),
        }
        if self.rng.random() < 0.5:
            fields["video"] = self.rng.choice(self.videos)
        else:
            fields["duration_s"] = round(self.rng.uniform(0.64, 8.0), 2)
        self.open_jobs.append(self.call("POST", "/v1/jobs", json=fields)["id"])
        self.submitted += 1

    def cancel(self) -> None:
        if self.open_jobs:
            self.call("POST", f"/v1/jobs/{self.rng.choice(self.open_jobs)}/cancel", allowed=(409,))

    def hurt(self) -> None:
        how = self.rng.choice(["kill", "stop", "drain"])
        victim = process_of(self.processes.pid("worker-2"))
        if victim is None:
            return
        if how == "kill":
            os.kill(victim, signal.SIGKILL)
        elif how == "stop":
            os.kill(self.processes.pid("worker-2"), signal.SIGTERM)
        else:
            ids = [one["id"] for one in self.call("GET", "/v1/workers")["data"] if one["pid"] == victim]
            if not ids:
                return
            self.call("POST", f"/v1/workers/{ids[0]}/drain", allowed=(404, 409))
        self.hurts[how] += 1

    def forget_ended(self) -> None:
        for job_id in list(self.open_jobs):
            job = self.call("GET", f"/v1/jobs/{job_id}")
            if job["state"] in TERMINAL:
                self.open_jobs.remove(job_id)
                self.ends[" ".join(filter(None, (job["state"], (job.get("error") or {}).get("code"))))] += 1

    def wait_for_rest(self) -> None:
        deadline = time.monotonic() + END_WITHIN_S
        while self.open_jobs and time.monotonic() < deadline:
            time.sleep(0.5)
            self.forget_ended()

    def upload(self, name: str, data: bytes) -> None:
        announced = self.call("POST", "/v1/uploads", json={"filename": name, "size_bytes": len(data)})
        self.client.put(announced["upload"]["url"], content=data).raise_for_status()
        self.videos.append(announced["id"])

    def call(self, method: str, path: str, *, allowed: tuple[int, ...] = (), **more: Any) -> Any:
        answer = self.client.request(method, path, **more)
        if answer.status_code not in allowed:
            answer.raise_for_status()
        return answer.json()


def process_of(supervisor: int) -> int | None:
    """Return the pid of the process that owns the device of a worker, if it lives."""
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(supervisor).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if "--process-for" in child.cmdline():
                    return int(child.pid)
    return None


@click.command()
@click.option("--seconds", default=600.0, show_default=True, help="How long work comes in.")
@click.option("--seed", default=1, show_default=True, help="Draws the work and the faults.")
def main(seconds: float, seed: int) -> None:
    """Run the platform under random work and faults; say what grows and what is left."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # as Ctrl-C: nothing stays behind
    with tempfile.TemporaryDirectory(prefix="mmaudio-soak-") as name, contextlib.ExitStack() as stack:
        good = run(Path(name), seconds, seed, stack)
    sys.exit(0 if good else 1)


def run(folder: Path, seconds: float, seed: int, stack: contextlib.ExitStack) -> bool:
    """Run once in an empty folder; print what was found; say whether it is all as it should be."""
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
        "MMAUDIO_MAX_ATTEMPTS": "20",  # no job may fail because its workers were hurt
        "MMAUDIO_LOG_LEVEL": "WARNING",
    }
    for made in ("data", "scratch", "tmp", "logs"):
        (folder / made).mkdir()
    upgrade(Settings(data_dir=folder / "data").database_url)
    processes = Processes(environment, folder / "logs")
    watch = ProcessWatch(lambda: {**{processes.pid(part): part for part in processes.starts()}, broker.pid: "broker"})
    try:
        for part in ("api", "control"):
            processes.keep(part, part)
        for number in (1, 2):
            processes.keep(f"worker-{number}", "worker", "--devices", f"cpu:{number - 1}")
        threading.Thread(target=processes.watch, daemon=True).start()
        client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False))
        _wait_ready(client)
        soak = Soak(client, processes, random.Random(f"soak {seed}"))
        for number, content in enumerate(_videos(folder)):
            soak.upload(f"v{number}.mp4", content)
        watch.start()
        soak.run(seconds)
        soak.wait_for_rest()
        watch.close()
        unfinished = len(soak.open_jobs)
    finally:
        processes.close()
    files = [path for made in ("scratch", "tmp") for path in (folder / made).rglob("*") if path.is_file()]
    drafts = list((folder / "data" / "objects" / "drafts").glob("tmp*"))
    broker_left = [told for told in watch.left() if not told.startswith(f"{broker.pid} ")]
    grown = _print_courses(watch, seconds)
    print(f"{soak.submitted} jobs in {seconds:.0f} s: {_counts(soak.ends)}; not ended {unfinished}")
    print(f"worker-2 was hurt: {_counts(soak.hurts)}; starts: {_counts(Counter(processes.starts()))}")
    print(
        f"orphans while it ran {len(watch.orphans)}, processes left {len(broker_left)}, files left {len(files)}, ",
        end="",
    )
    print(f"drafts left in the store {len(drafts)}")
    for line in (*watch.orphans, *broker_left, *files, *drafts):
        print(f"left: {line}")
    return not (grown or unfinished or watch.orphans or broker_left or files or set(soak.ends) - RIGHT_ENDS)


def _videos(folder: Path) -> list[bytes]:
    """Return three videos that are good and one that is not."""
    contents = []
    for number, seconds in enumerate((1.0, 2.0, 5.0)):
        render_demo_video(folder / f"{number}.mp4", seconds=seconds)
        contents.append((folder / f"{number}.mp4").read_bytes())
    return [*contents, contents[0][:3000]]


def _wait_ready(client: httpx.Client) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline:
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            if sum(one["state"] == "idle" for one in client.get("/v1/workers").json()["data"]) >= 2:
                return
        time.sleep(0.2)
    raise RuntimeError(f"the workers did not get ready within {READY_WITHIN_S:g} s")


def _print_courses(watch: ProcessWatch, seconds: float) -> list[str]:
    """Print what every long-lived process used; return the names of those that grow."""
    warm_s = seconds / 4
    grown = []
    print("process            lived s   MiB first  warm   last   MiB a minute  of its floor   open files   threads")
    for course in sorted(watch.courses.values(), key=lambda one: one.name):
        growth = course.growth(warm_s)
        if growth is None:
            continue
        warm = next(place for place, at in enumerate(course.at_s) if at - course.at_s[0] >= warm_s)
        first, middle, last = (course.rss[place] / MIB for place in (0, warm, -1))
        lived_s = course.at_s[-1] - course.at_s[0]
        print(f"{course.name:18} {lived_s:7.0f}   {first:9.1f} {middle:6.1f} {last:6.1f}   ", end="")
        print(f"{growth.all:12.2f}   {growth.floor:11.2f}   ", end="")
        print(f"{course.files[warm]:4} {course.files[-1]:4}   {course.threads[warm]:4} {course.threads[-1]:4}")
        if growth.floor > ALLOWED_MIB_A_MINUTE:
            grown.append(course.name)
    return grown


def _counts(counts: Counter[str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in sorted(counts.items())) or "none"


if __name__ == "__main__":
    main()
