"""Every file of the hostile collection through a real worker: its documented end, and nothing else happens."""

from __future__ import annotations

import socket
from http import HTTPStatus
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from jobs.lifecycle import State
from jobs.service.artifacts import artifacts_by_job
from tests.hostile_media import HostileFile, hostile_files
from tests.integration.conftest import ON_SQLITE, PATIENCE_S, PlatformHarness
from tests.network_guard import MemoryWatch, peak_memory, watched_file, watched_port
from tests.unit.mmaudio_model.media.videos import numbered, regular, write_video

MIB = 1024**2
# The two hours of one picture get a sound of 30 s: the worker needs as much as for any other of this length.
MEDIA_MEMORY, WORKER_MEMORY = 640 * MIB, 2304 * MIB
SECRET = b"what stands in the canary is for nobody"
LIMITS = {"MMAUDIO_DECODE_MEMORY_BYTES": str(MEDIA_MEMORY), "MMAUDIO_WORKER_MEMORY_BYTES": str(WORKER_MEMORY)}


@ON_SQLITE
def test_every_hostile_file_ends_as_documented_and_reaches_nothing_outside_its_job(
    platform: PlatformHarness, tmp_path: Path
) -> None:
    canary = write_video(
        tmp_path / "canary_green.ts", regular(25, 25), pictures=[numbered(255)] * 25, container="mpegts"
    )
    with canary.open("ab") as file:
        file.write(SECRET)
    platform.commands.environment = {**platform.commands.environment, **LIMITS}
    with watched_file(canary) as wire, watched_port() as listener:
        (tmp_path / "made").mkdir()
        collection = hostile_files(tmp_path / "made", canary=canary, port=listener.port)
        files = [one for one in collection if one.content]
        # The wires do work.
        canary.read_bytes()
        socket.create_connection(("127.0.0.1", listener.port)).close()
        assert wire.was_touched()
        assert listener.was_called()

        client = create_app(
            platform.settings, db=platform.db, store=platform.store, broker=platform.broker
        ).test_client()
        (empty,) = [one for one in collection if not one.content]
        assert announce(client, empty).status_code == HTTPStatus.UNPROCESSABLE_ENTITY
        platform.commands.start("worker", "--devices", "cpu:0")
        (pid,) = platform.wait_for_workers(1)
        with MemoryWatch(pid, b"workers.media.forkserver") as memory:
            ids = [hand_in(client, one) for one in files]
            platform.wait_for(ids, within_s=PATIENCE_S)

        assert not wire.was_touched()
        assert not listener.was_called()
    assert {one.name: ended(platform, job_id) for one, job_id in zip(files, ids, strict=True)} == {
        one.name: documented(one) for one in files
    }
    # A bad file is refused once; the worker is the one that began, and has no file left.
    assert {tuple(platform.outcomes(job_id)) for job_id in ids} == {("failed",), ("succeeded",)}
    assert platform.wait_for_workers(1) == [pid]
    assert platform.files_in_scratch() == []
    assert 0 < peak_memory(pid) < WORKER_MEMORY
    assert len(memory.peaks) >= len(files)
    assert max(memory.peaks.values()) < MEDIA_MEMORY
    # Nothing of the canary is in any object, row or log, and nothing was written where an attachment's name leads.
    holders = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET in path.read_bytes()]
    assert holders == [canary]
    assert list(tmp_path.rglob("PWNED*")) == []


def announce(client: FlaskClient, one: HostileFile) -> TestResponse:
    return client.post("/v1/uploads", json={"filename": one.name, "size_bytes": len(one.content)})


def hand_in(client: FlaskClient, one: HostileFile) -> str:
    """Upload a file and ask for its sound, by the API; return the job's id."""
    upload = announce(client, one).get_json()
    assert client.put(upload["upload"]["url"], data=one.content).status_code == HTTPStatus.NO_CONTENT
    answer = client.post("/v1/jobs", json={"video": upload["id"], "num_steps": 1, "audio_format": "wav"})
    assert answer.status_code == HTTPStatus.ACCEPTED, answer.get_json()
    return str(answer.get_json()["id"])


def documented(one: HostileFile) -> tuple[State, str | None, str | None, object]:
    if one.code is not None:
        return State.FAILED, one.code, one.message, "decode"
    return State.SUCCEEDED, None, None, pytest.approx(one.duration_s, abs=0.005)


def ended(platform: PlatformHarness, job_id: str) -> tuple[State, str | None, str | None, object]:
    """Return a job's state, its error's code and message, and the error's stage or the length of sound and video."""
    job = platform.job(job_id)
    if job.error is not None:
        return job.state, job.error_code, job.error["message"], job.error["stage"]
    with platform.db.reading() as tx:
        made = {artifact.kind: artifact.duration_s for artifact in artifacts_by_job(tx, [job_id])[job_id]}
    assert set(made) == {"audio", "video"}, made
    return job.state, None, None, made["audio"]
