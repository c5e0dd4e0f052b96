"""A real API is killed and started again behind clients that wait, submit, upload and download."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import io
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from jobs.db.database import Database
from jobs.lifecycle import ArtifactKind
from jobs.service import attempts
from jobs.service.attempts import NewArtifact
from jobs.service.job_pages import list_jobs
from jobs.service.queries import JobFilter
from jobs.service.workers import register_worker
from jobs.storage.local import LocalStore
from local_services.commands import Commands, wait_until
from local_services.ports import free_port
from mmaudio_client import AsyncClient, Client, Event
from tests.databases import migrated_sqlite

PATIENCE_S = 240.0
# How long the API is away. By hand: MMAUDIO_TEST_OUTAGE_S=60 for a whole minute.
OUTAGE_S = float(os.environ.get("MMAUDIO_TEST_OUTAGE_S", "1"))
SOUND = bytes(range(256)) * 2000


@dataclass
class RestartedApi:
    """An API over SQLite and a folder. There is no worker: the tests complete the jobs themselves."""

    url: str
    commands: Commands
    db: Database
    store: LocalStore
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = self.commands.start("api")
        wait_until(self.is_up, within_s=PATIENCE_S, what="an API that answers")

    def is_up(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz", timeout=5, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def kill(self) -> None:
        assert self.process is not None
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def job_ids(self) -> list[str]:
        with self.db.of_tenant("default").reading() as tx:
            return [job.id for job in list_jobs(tx, wanted=JobFilter(), cursor=None, limit=10).jobs]

    def complete(self, job_id: str) -> None:
        """Complete a job as a worker does, with one audio file."""
        with self.db.transaction() as tx:
            register_worker(tx, worker_id="w1", hostname="h", pid=1, device="cpu:0", slots=4, variants=["tiny_16k"])
            claim = attempts.claim(tx, job_id, worker_id="w1", lease_s=600)
        assert claim is not None
        key = f"jobs/{job_id}/1/audio.flac"
        self.store.put_stream(key, io.BytesIO(SOUND), content_type="audio/flac", max_bytes=len(SOUND))
        artifact = NewArtifact(
            name="audio.flac", kind=ArtifactKind.AUDIO, format="flac", content_type="audio/flac", storage_key=key,
            size_bytes=len(SOUND), sha256=hashlib.sha256(SOUND).hexdigest(), duration_s=8.0, take=0, seed=7,
        )  # fmt: skip
        with self.db.transaction() as tx:
            attempts.complete(tx, claim, [artifact], warnings=[], timings={}, artifact_ttl_s=3600)

    @contextlib.contextmanager
    def outage(self) -> Iterator[None]:
        """Kill the API now and start it again after a while, during which the block runs."""
        self.kill()
        back_at = time.monotonic() + OUTAGE_S

        def restart() -> None:
            time.sleep(max(0.0, back_at - time.monotonic()))
            self.start()

        thread = threading.Thread(target=restart)
        thread.start()
        try:
            yield
        finally:
            thread.join()


@pytest.fixture
def api(tmp_path: Path) -> Iterator[RestartedApi]:
    url = f"http://127.0.0.1:{free_port()}"
    data = tmp_path / "data"
    environment = {
        "MMAUDIO_DATA_DIR": str(data),
        "MMAUDIO_DATABASE_URL": migrated_sqlite(data / "mmaudio.db"),
        "MMAUDIO_API_BIND": url.removeprefix("http://"),
        "MMAUDIO_API_URL": url,
        "MMAUDIO_VARIANTS": "tiny_16k",
        "MMAUDIO_BROKER_URL": f"redis://127.0.0.1:{free_port()}",  # nothing there: the jobs wait for maintenance
    }
    (tmp_path / "logs").mkdir()
    (tmp_path / "sounds").mkdir()
    commands = Commands(environment, tmp_path / "logs", tmp_path / "sounds")
    db = Database(environment["MMAUDIO_DATABASE_URL"]).of_platform()
    restarted = RestartedApi(url, commands, db, LocalStore(data / "objects"))
    try:
        restarted.start()
        yield restarted
    finally:
        commands.stop_all()
        db.close()


def test_wait_submit_and_download_go_on_over_a_killed_api(api: RestartedApi, tmp_path: Path) -> None:
    told: list[str] = []
    with Client(api.url, on_outage=told.append) as client:
        first = client.submit(video=b"a video", prompt="rain")
        waiter = threading.Thread(target=client.wait, args=(first,), daemon=True)
        waiter.start()
        with api.outage():
            api.complete(first.id)
            second = client.submit(video=b"another video", prompt="wind")
            (path,) = client.download(first.id, tmp_path / "saved")
        waiter.join(PATIENCE_S)
        assert not waiter.is_alive()
    assert path.read_bytes() == SOUND
    assert sorted(api.job_ids()) == sorted([first.id, second.id])
    assert len(told) == 1, told


def test_the_submit_command_goes_on_over_a_killed_api_and_says_so_once(api: RestartedApi, tmp_path: Path) -> None:
    command = api.commands.start("submit", "--prompt", "rain", "--output", str(tmp_path / "sounds"))
    wait_until(lambda: bool(api.job_ids()), within_s=PATIENCE_S, what="a submitted job")
    log = tmp_path / "logs" / "submit-1.log"
    wait_until(lambda: "queued" in log.read_text(), within_s=PATIENCE_S, what="a command that follows its job")
    (job_id,) = api.job_ids()
    with api.outage():
        api.complete(job_id)
    assert command.wait(PATIENCE_S) == 0
    lines = log.read_text().splitlines()
    assert sum("Trying again for up to 180 s; submitted jobs continue." in line for line in lines) == 1, lines
    assert lines[-2:] == [f"{job_id}: succeeded", str(tmp_path / "sounds" / "rain.flac")]
    assert (tmp_path / "sounds" / "rain.flac").read_bytes() == SOUND
    assert api.job_ids() == [job_id]


def test_streams_of_events_go_on_over_a_killed_api_and_miss_none(api: RestartedApi) -> None:
    with Client(api.url, patience_s=PATIENCE_S, on_outage=lambda _: None) as client:
        first, second = client.submit(prompt="rain"), client.submit(prompt="wind")
        seen: list[Event] = []

        def follow() -> None:
            for event in client.all_events(after=0):
                seen.append(event)
                if len([one for one in seen if one.kind == "succeeded"]) == 2:
                    return

        async def follow_one() -> list[Event]:
            async with AsyncClient(api.url, patience_s=PATIENCE_S, on_outage=lambda _: None) as other:
                return [event async for event in other.events(second.id, progress=False)]

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        wait_until(lambda: len(seen) >= 2, within_s=PATIENCE_S, what="the events of two submits")
        api.complete(first.id)
        with api.outage():
            api.complete(second.id)
            of_one = asyncio.run(asyncio.wait_for(follow_one(), PATIENCE_S))
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
        stored = [*client.stored_events()]
    assert seen == stored
    assert of_one == [event for event in stored if event.job_id == second.id]
    assert [event.kind for event in of_one] == ["queued", "running", "succeeded"]
