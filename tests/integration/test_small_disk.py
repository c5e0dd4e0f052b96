"""The embedded platform on a disk that fills: it refuses new work, goes on with the rest, and recovers by itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import httpx
import pytest
from sqlalchemy import update

from jobs.db.database import Database
from jobs.db.tables import Upload
from jobs.service.retention import UPLOAD_GRACE_S
from jobs.service.uploads import store_upload
from jobs.storage.local import LocalStore
from local_services.commands import Commands, wait_until
from local_services.ports import free_port
from tests.databases import migrated_sqlite
from tests.small_disk import MIB, fill, small_disk

PATIENCE_S = 60
RESERVE = 4 * MIB


@dataclass
class SmallPlatform:
    """An API whose database and object folder are on a small disk."""

    disk: Path
    logs: Path
    db: Database
    store: LocalStore
    commands: Commands
    http: httpx.Client

    def submit(self) -> httpx.Response:
        return self.http.post("/v1/jobs", json={"prompt": "rain"})

    def announce(self, size_bytes: int) -> httpx.Response:
        return self.http.post("/v1/uploads", json={"filename": "a.mp4", "size_bytes": size_bytes})

    def add_expired_upload(self, size_bytes: int) -> None:
        upload_id = store_upload(
            self.db.of_tenant("default"),
            self.store,
            bytes(size_bytes),
            filename="v",
            content_type="video/mp4",
            ttl_s=60,
        )
        with self.db.transaction() as tx:
            past = tx.now - timedelta(seconds=UPLOAD_GRACE_S + 1)
            tx.session.execute(update(Upload).where(Upload.id == upload_id).values(expires_at=past))

    def log(self, name: str) -> str:
        return "".join(path.read_text() for path in self.logs.glob(f"{name}-*.log"))


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallPlatform]:
    with small_disk(tmp_path / "disk", 32 * MIB) as disk:
        port, logs = free_port(), tmp_path / "logs"
        logs.mkdir()
        environment = {
            "MMAUDIO_DATA_DIR": str(disk),
            "MMAUDIO_DATABASE_URL": migrated_sqlite(disk / "mmaudio.db"),
            "MMAUDIO_BROKER_URL": "redis://127.0.0.1:1/0",
            "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
            "MMAUDIO_VARIANTS": "tiny_16k",
            "MMAUDIO_DISK_RESERVE_BYTES": str(RESERVE),
        }
        commands = Commands(environment, logs)
        db = Database(environment["MMAUDIO_DATABASE_URL"]).of_platform()
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as http:
            commands.start("api")
            try:
                wait_until(lambda: answers(http), within_s=PATIENCE_S, what="an answer of the API")
                yield SmallPlatform(disk, logs, db, LocalStore(disk / "objects"), commands, http)
            finally:
                commands.stop_all()
                db.close()


def answers(http: httpx.Client) -> bool:
    try:
        return http.get("/healthz").is_success
    except httpx.HTTPError:
        return False


def test_below_the_reserve_new_work_is_refused_and_the_rest_goes_on(small: SmallPlatform) -> None:
    job = small.submit().json()
    announced = small.announce(1000).json()
    filler = fill(small.disk, leave_bytes=RESERVE - MIB // 2)
    refused = [
        small.submit(),
        small.announce(1),
        small.http.put(announced["upload"]["url"], content=bytes(1000)),
        small.http.post("/v1/triggers", json={"bucket": "videos", "request": {"prompt": "rain"}}),
    ]
    assert [answer.status_code for answer in refused[:3]] == [507] * 3
    assert all(int(answer.headers["Retry-After"]) > 0 for answer in refused[:3])
    assert refused[0].json()["code"] == "disk_full"
    assert str(small.disk) not in refused[0].text
    assert small.http.get("/healthz").is_success
    assert small.http.get(f"/v1/jobs/{job['id']}").json()["state"] == "queued"
    assert small.http.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "canceled"  # the database goes on
    assert small.http.post(f"/v1/jobs/{job['id']}/retry").status_code == 507
    assert sum("disk full" in line for line in small.log("api").splitlines()) == 1
    filler.unlink()
    assert small.submit().status_code == 202
    assert small.http.put(announced["upload"]["url"], content=bytes(1000)).status_code == 204


def test_an_upload_larger_than_what_is_free_is_refused_when_it_is_announced(small: SmallPlatform) -> None:
    answer = small.announce(64 * MIB)
    assert (answer.status_code, answer.json()["code"]) == (507, "disk_full")


def test_a_disk_that_others_filled_is_freed_by_retention(small: SmallPlatform) -> None:
    for _ in range(2):
        small.add_expired_upload(4 * MIB)
    fill(small.disk)
    assert os.statvfs(small.disk).f_bavail == 0
    assert small.submit().status_code == 507
    assert small.http.get("/healthz").is_success
    small.commands.start("control")
    wait_until(lambda: small.submit().status_code == 202, within_s=PATIENCE_S, what="a submit")
    assert list(small.store.list_keys("uploads/")) == []
    assert sum("disk full" in line for line in small.log("control").splitlines()) <= 1


def test_a_control_process_that_starts_on_a_full_disk_makes_space_for_the_database(small: SmallPlatform) -> None:
    small.add_expired_upload(4 * MIB)
    control = small.commands.start("control")
    ballast = small.disk / ".disk-reserve"
    wait_until(ballast.exists, within_s=PATIENCE_S, what="the reserve beside the database")
    for process in small.commands.started:
        process.terminate()
        process.wait(PATIENCE_S)
    assert control.returncode is not None
    small.db.close()
    small.add_expired_upload(8 * MIB)
    small.db.close()  # no process has the database open: its index must be made anew
    fill(small.disk)
    small.commands.start("control")
    wait_until(lambda: os.statvfs(small.disk).f_bavail > 0, within_s=PATIENCE_S, what="free space")
    wait_until(lambda: not list(small.store.list_keys("uploads/")), within_s=PATIENCE_S, what="retention")
    wait_until(ballast.exists, within_s=PATIENCE_S, what="the reserve beside the database")
