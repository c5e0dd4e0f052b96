"""Every hostile and broken file through the platform: a documented end, and nothing else happens."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest

from jobs.lifecycle import State
from tests.integration.conftest import RealHouse
from tests.integration.watched_file import WatchedFile, was_called
from tests.servers.commands import wait_until

FOLDER = Path(__file__).parents[1] / "data" / "media"
EXPECTED: list[dict[str, Any]] = [
    entry for entry in json.loads((FOLDER / "expected.json").read_text()) if entry["file"].startswith("bad/")
]
CODES = {"MediaInvalidError": "media_invalid", "MediaTooLargeError": "media_too_large"}
MIB = 1024**2
# A job of a long video needs some; a bomb that is decoded needs over 1 GB.
GROWTH_ALLOWED = 400 * MIB


def video(path: Path, times_s: list[float], width: int = 64, height: int = 48, container: str = "mp4") -> Path:
    with av.open(str(path), "w", format=container) as out:
        stream = out.add_stream("mpeg4", rate=1)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for time_s in times_s:
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 200, np.uint8), format="rgb24")
            frame.pts = round(time_s)
            out.mux(stream.encode(frame))
        out.mux(stream.encode(None))
    return path


def playlist(target: str) -> bytes:
    return f"#EXTM3U\n#EXT-X-VERSION:3\n#EXT-X-TARGETDURATION:10\n#EXTINF:10.0,\n{target}\n#EXT-X-ENDLIST\n".encode()


def made_files(folder: Path, canary: Path, port: int) -> dict[str, tuple[bytes, str]]:
    """Return files like those that are too large to be kept, and those that name the canary; each with its code."""
    invalid, large = "media_invalid", "media_too_large"
    dash = (
        '<?xml version="1.0"?>\n<MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
        f"<Representation><BaseURL>{canary}</BaseURL></Representation></AdaptationSet></Period></MPD>"
    )
    return {
        "random": (np.random.default_rng(0).bytes(300_000), invalid),
        "zeros": (bytes(MIB), invalid),
        "program": (b"\x7fELF" + bytes(4096), invalid),
        "many pixels": (video(folder / "large.mp4", [0, 1], 4400, 2400).read_bytes(), large),
        "two hours": (video(folder / "long.mp4", [0, 7200]).read_bytes(), large),
        "one pixel": (video(folder / "small.mp4", [0, 1], 2, 2).read_bytes(), invalid),
        "hls": (playlist(f"file://{canary}"), invalid),
        "hls without a scheme": (playlist(str(canary)), invalid),
        "hls of an address": (playlist(f"http://127.0.0.1:{port}/v.ts"), invalid),
        "hls that sends away": (playlist(f"concat:http://127.0.0.1:{port}/?|{canary}"), invalid),
        "ffconcat": (f"ffconcat version 1.0\nfile {canary}\n".encode(), invalid),
        "dash": (dash.encode(), invalid),
    }


@pytest.mark.timeout(900)
@pytest.mark.parametrize("house", ["sqlite+folder"], indirect=True)
def test_every_bad_file_has_its_documented_end_and_touches_nothing(house: RealHouse, tmp_path: Path) -> None:
    canary = video(tmp_path / "canary.ts", [0, 1], container="mpegts")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        made = made_files(tmp_path, canary, listener.getsockname()[1])
        house.commands.start("worker", "--devices", "cpu:0")
        (pid,) = house.wait_for_workers(1)
        uploads = {entry["file"]: (FOLDER / entry["file"]).read_bytes() for entry in EXPECTED}
        del uploads["bad/empty.mp4"]  # an upload of no bytes is refused by the API (tests/unit/api)
        uploads |= {name: data for name, (data, _) in made.items()}
        before = psutil.Process(pid).memory_info().rss
        with WatchedFile(canary) as watched:
            ids = {name: house.submit(video=house.upload(data), duration_s=None)[0] for name, data in uploads.items()}
            most = _watch_memory(pid, lambda: house.ended(list(ids.values())), within_s=600)
            assert not watched.was_opened
        assert not was_called(listener)

    for entry in EXPECTED:
        if entry["file"] not in ids:
            continue
        job = house.job(ids[entry["file"]])
        if entry["outcome"] == "accepted":
            assert job.state is State.SUCCEEDED, entry["file"]
            assert job.request["duration_s"] == pytest.approx(entry["duration_s"], abs=0.001), entry["file"]
            assert bool([w for w in job.warnings if w["code"] == "video_damaged"]) == entry["damaged"], entry["file"]
        else:
            said = (job.error or {})["code"], (job.error or {})["message"], (job.error or {})["stage"]
            assert said == (CODES[entry["error"]], entry["message"], "decode"), entry["file"]
            assert house.outcomes(job.id) == ["failed"], f"{entry['file']} was tried again"
    for name, (_, code) in made.items():
        assert (house.job(ids[name]).error_code, house.outcomes(ids[name])) == (code, ["failed"]), name
    assert house.wait_for_workers(1) == [pid]
    assert house.files_in_scratch() == []
    assert most < before + GROWTH_ALLOWED


def _watch_memory(pid: int, done: Callable[[], bool], *, within_s: float) -> int:
    """Wait, and return the most bytes that the worker and its media processes were seen to use, each alone."""
    worker, most = psutil.Process(pid), 0

    def look() -> bool:
        nonlocal most
        for process in [worker, *worker.children()]:
            try:
                most = max(most, process.memory_info().rss)
            except psutil.NoSuchProcess:
                continue
        return done()

    wait_until(look, within_s=within_s, what="the end of every job")
    return most


@pytest.mark.timeout(600)
@pytest.mark.parametrize("house", ["sqlite+folder"], indirect=True)
def test_jobs_of_every_fate_side_by_side_each_end_rightly(house: RealHouse, tmp_path: Path) -> None:
    from jobs.service.cancel import cancel
    from tests.integration.conftest import TENANT

    good_video = house.upload((FOLDER / "real/stream_0.4s.mp4").read_bytes())
    bad_video = house.upload((FOLDER / "bad/corrupt_all_frames.mp4").read_bytes())
    house.commands.environment = {**house.commands.environment, "MMAUDIO_WORKER_SLOTS": "8"}
    house.commands.start("worker", "--devices", "cpu:0")
    (pid,) = house.wait_for_workers(1)
    long = {"duration_s": 30, "num_steps": 100, "num_samples": 2}
    good = {"seed": 7, "num_steps": 12, "audio_format": "wav"}
    canceled = house.submit(**long)[0]
    timed_out = house.submit(**long, run_timeout_s=3)[0]
    words = house.submit(**good)[0]
    seen = house.submit(**good, video=good_video, duration_s=None)[0]
    bad = house.submit(video=bad_video, duration_s=None)[0]
    wait_until(lambda: house.job(canceled).state is State.RUNNING, within_s=60, what="the first job")
    with house.db.transaction() as tx:
        cancel(tx, canceled, tenant=TENANT)
    ends = [(str(job.state), job.error_code) for job in house.wait_for([canceled, timed_out, words, seen, bad], 300)]

    assert ends == [
        ("canceled", None),
        ("failed", "run_timeout"),
        ("succeeded", None),
        ("succeeded", None),
        ("failed", "media_invalid"),
    ]
    alone = house.submit(**good)[0]
    alone_seen = house.submit(**good, video=good_video, duration_s=None)[0]
    house.wait_for([alone], 120)
    house.wait_for([alone_seen], 120)
    for one, other in ((words, alone), (seen, alone_seen)):
        with_others, by_itself = (_sound(house, job_id, tmp_path) for job_id in (one, other))
        assert np.linalg.norm(with_others - by_itself) <= 1e-4 * np.linalg.norm(by_itself)
    assert house.wait_for_workers(1) == [pid]
    assert house.files_in_scratch() == []


def _sound(house: RealHouse, job_id: str, folder: Path) -> np.ndarray:
    key = next(key for key in house.artifact_keys(job_id) if key.endswith(".wav"))
    house.store.download_to(key, folder / "x.wav")
    with av.open(str(folder / "x.wav")) as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]).astype(float)
