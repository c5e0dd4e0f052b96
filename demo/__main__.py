"""Starts the platform as a person would (`mmaudio up`), sends it a video, checks and keeps what comes back.

Exits 0 when the sound and the video are what they should be, and leaves nothing running.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import httpx
import numpy as np

from mmaudio_client import Client, ClientError, Job
from mmaudio_model.demo_video import demo_scene, render_demo_video
from mmaudio_model.evaluation.matching import Matches, match_onsets
from mmaudio_model.evaluation.onsets import detect_onsets
from mmaudio_model.procedural_world.scene import Scene

OUTPUT = Path("demo-output")
READY_WITHIN_S = 120.0
STOP_WITHIN_S = 60.0
LEAST_F1 = 0.8
"""Of the sound's onsets against the ball's hits, within 60 ms."""


def main() -> int:
    """Run the demo; return the exit status."""
    OUTPUT.mkdir(exist_ok=True)
    video = OUTPUT / "bouncing-ball.mp4"
    render_demo_video(video)
    _say(f"made a video: {video.resolve()}")
    with tempfile.TemporaryDirectory(prefix="mmaudio-demo-") as data_dir:
        port = _free_port()
        platform = _start_platform(Path(data_dir), port)
        try:
            sound, muxed = _run_job(f"http://127.0.0.1:{port}", video, platform)
        except (ClientError, DemoFailedError) as exc:
            _say(f"failed: {exc}")
            return 1
        finally:
            _stop(platform)
    problems = check(video, sound, muxed)
    hits = heard_hits(sound, demo_scene())
    _say(f"{len(hits.delays_s)} of the ball's {hits.expected} hits are heard, among {hits.detected} onsets")
    if hits.f1 < LEAST_F1:
        problems.append(f"the onsets fit the hits with an F1 of {hits.f1:.2f}, below {LEAST_F1:g}")
    for problem in problems:
        _say(f"wrong: {problem}")
    _say(f"sound: {sound.resolve()}")
    _say(f"video: {muxed.resolve()}")
    return 1 if problems else 0


class DemoFailedError(Exception):
    """Raised when the platform does not do what the demo needs."""


def _start_platform(data_dir: Path, port: int) -> subprocess.Popen[bytes]:
    settings = {
        "MMAUDIO_DATA_DIR": str(data_dir / "data"),
        "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
        "MMAUDIO_DEVICES": "cpu",
        "MMAUDIO_VARIANTS": "tiny_16k",
        "MMAUDIO_LOG_LEVEL": "WARNING",
    }
    # The demo is the same whatever this shell is set up for.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MMAUDIO_")}
    _say("starting the platform: broker, database, API, control, worker")
    return subprocess.Popen([sys.executable, "-P", "-m", "mmaudio_client", "up"], env={**inherited, **settings})


def _run_job(url: str, video: Path, platform: subprocess.Popen[bytes]) -> tuple[Path, Path]:
    _wait_until_ready(url, platform)
    with Client(url) as client:
        job = client.submit(video=video, prompt=demo_scene().captions[0], seed=1)
        _say(f"submitted {job.id}")
        job = _follow(client, job)
        if job.state != "succeeded":
            raise DemoFailedError(f"the job {job.state}: {job.error_message}")
        for warning in job.warnings:
            _say(f"note: {warning}")
        paths = client.download(job, OUTPUT)
    return _kept_as(paths, "audio", ".flac"), _kept_as(paths, "video", ".mp4")


def _wait_until_ready(url: str, platform: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    with httpx.Client(base_url=url, trust_env=False) as http:
        while time.monotonic() < deadline:
            if platform.poll() is not None:
                raise DemoFailedError(f"`mmaudio up` ended with status {platform.returncode}")
            try:
                workers = http.get("/v1/workers").json()["data"]
            except (httpx.HTTPError, ValueError, KeyError):
                workers = []
            if any(worker["state"] == "idle" for worker in workers):
                return
            time.sleep(0.2)
    raise DemoFailedError(f"no worker was ready within {READY_WITHIN_S:g} s")


def _follow(client: Client, job: Job) -> Job:
    said = ""
    for state in client.watch(job, every_s=0.05):
        job = state
        if (line := job.stage or job.state) != said:
            _say(f"  {line} ({job.progress:.0%})")
            said = line
    timings = {name: seconds for name, seconds in job.raw["timings"].items() if name.endswith("_s")}
    _say("  " + ", ".join(f"{name.removesuffix('_s')} {seconds:.2f} s" for name, seconds in timings.items()))
    return job


def _kept_as(paths: tuple[Path, ...], kind: str, suffix: str) -> Path:
    """Give a downloaded file the demo's own name, so that a second run replaces the first's."""
    path = next(path for path in paths if path.suffix == suffix)
    return path.replace(OUTPUT / f"demo-{kind}{suffix}")


def check(video: Path, sound: Path, muxed: Path) -> list[str]:
    """Return what is wrong with the files that came back; nothing, if all is well."""
    problems = []
    if _packets(video) != _packets(muxed):
        problems.append("the video's packets are not those of the source")
    with av.open(str(muxed)) as container:
        codecs = [stream.codec_context.name for stream in container.streams.audio]
    if codecs != ["aac"]:
        problems.append(f"the video's sound is {codecs}, not AAC")
    with av.open(str(sound)) as container:
        rate = container.streams.audio[0].rate
    samples = read_samples(sound)
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        wanted = float(stream.duration * stream.time_base) * rate
    if rate != 16_000 or abs(len(samples) - wanted) > 1:
        problems.append(f"the sound has {len(samples)} samples at {rate} Hz; the video lasts {wanted:g}")
    if float(np.sqrt(np.mean(samples**2))) < 1e-3:
        problems.append("the sound is silent")
    return problems


def heard_hits(sound: Path, scene: Scene) -> Matches:
    """Compare the onsets of a sound with the events of the scene it was made for."""
    with av.open(str(sound)) as container:
        rate = container.streams.audio[0].rate
    return match_onsets([event.time_s for event in scene.events], detect_onsets(read_samples(sound), rate))


def read_samples(sound: Path) -> np.ndarray:
    """Return the samples of a FLAC file, float64 (samples,), in [-1, 1]."""
    with av.open(str(sound)) as container:
        return np.concatenate([frame.to_ndarray().reshape(-1) for frame in container.decode(audio=0)]) / 2**31


def _packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def _stop(platform: subprocess.Popen[bytes]) -> None:
    if platform.poll() is None:
        platform.send_signal(signal.SIGINT)
    try:
        platform.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        platform.kill()
        platform.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _say(line: str) -> None:
    sys.stdout.write(f"demo: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
