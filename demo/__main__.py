"""Starts the platform (`mmaudio up`) in a temporary folder, submits a video, and checks and keeps the results.

Exit status 0: audio and video passed the checks. No process is left running.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import av
import httpx
import numpy as np

from local_services.ports import free_port
from mmaudio_client import Client, ClientError, Job
from mmaudio_model.demo_video import demo_scene, render_demo_video
from mmaudio_model.evaluation.matching import Matches, match_onsets
from mmaudio_model.evaluation.onsets import detect_onsets
from mmaudio_model.procedural_world.scene import Scene

OUTPUT = Path("demo-output")
READY_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 60.0
MIN_F1 = 0.8
"""F1 score of the audio's onsets against the ball's bounces, within 60 ms."""


def main() -> int:
    """Run the demo; return the exit status."""
    OUTPUT.mkdir(exist_ok=True)
    video = OUTPUT / "bouncing-ball.mp4"
    render_demo_video(video)
    _log(f"rendered the input video: {video.resolve()}")
    with tempfile.TemporaryDirectory(prefix="mmaudio-demo-") as data_dir:
        port = free_port()
        platform = _start_platform(Path(data_dir), port)
        try:
            sound, muxed = _run_job(f"http://127.0.0.1:{port}", video, platform)
        except (ClientError, DemoFailedError) as exc:
            _log(f"failed: {exc}")
            return 1
        finally:
            _stop(platform)
    problems = check(video, sound, muxed)
    bounces = match_bounces(sound, demo_scene())
    _log(
        f"{len(bounces.delays_s)} of the ball's {bounces.expected} bounces are audible, among {bounces.detected} onsets"
    )
    if bounces.f1 < MIN_F1:
        problems.append(
            f"the onsets match the bounces with an F1 score of {bounces.f1:.2f}, expected at least {MIN_F1:g}"
        )
    for problem in problems:
        _log(f"check failed: {problem}")
    _log(f"audio: {sound.resolve()}")
    _log(f"video: {muxed.resolve()}")
    return 1 if problems else 0


class DemoFailedError(Exception):
    """Raised when the platform cannot run the demo's job."""


def _start_platform(data_dir: Path, port: int) -> subprocess.Popen[bytes]:
    settings = {
        "MMAUDIO_DATA_DIR": str(data_dir / "data"),
        "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
        "MMAUDIO_DEVICES": "cpu",
        "MMAUDIO_VARIANTS": "tiny_16k",
        "MMAUDIO_LOG_LEVEL": "WARNING",
    }
    # Settings of this shell must not change the demo.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("MMAUDIO_")}
    _log("starting the platform: broker, database, API, control worker, worker")
    return subprocess.Popen([sys.executable, "-P", "-m", "mmaudio_client", "up"], env={**inherited, **settings})


def _run_job(url: str, video: Path, platform: subprocess.Popen[bytes]) -> tuple[Path, Path]:
    _wait_until_ready(url, platform)
    with Client(url) as client:
        job = client.submit(video=video, prompt=demo_scene().captions[0], seed=1)
        _log(f"submitted job {job.id}")
        job = _follow(client, job)
        if job.state != "succeeded":
            raise DemoFailedError(f"the job {job.state}: {job.error_message}")
        for warning in job.warnings:
            _log(f"warning: {warning}")
        paths = client.download(job, OUTPUT)
    return _rename(paths, "audio", ".flac"), _rename(paths, "video", ".mp4")


def _wait_until_ready(url: str, platform: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    with httpx.Client(base_url=url, trust_env=False) as http:
        while time.monotonic() < deadline:
            if platform.poll() is not None:
                raise DemoFailedError(f"`mmaudio up` exited with status {platform.returncode}")
            try:
                workers = http.get("/v1/workers").json()["data"]
            except (httpx.HTTPError, ValueError, KeyError):
                workers = []
            if any(worker["state"] == "idle" for worker in workers):
                return
            time.sleep(0.2)
    raise DemoFailedError(f"no worker was ready within {READY_TIMEOUT_S:g} s")


def _follow(client: Client, job: Job) -> Job:
    last = ""
    for state in client.watch(job, every_s=0.05):
        job = state
        if (line := job.stage or job.state) != last:
            _log(f"  {line} ({job.progress:.0%})")
            last = line
    timings = {name: seconds for name, seconds in job.raw["timings"].items() if name.endswith("_s")}
    _log("  " + ", ".join(f"{name.removesuffix('_s')} {seconds:.2f} s" for name, seconds in timings.items()))
    return job


def _rename(paths: tuple[Path, ...], kind: str, suffix: str) -> Path:
    """Rename a downloaded file to a fixed name, so that the next run replaces it."""
    path = next(path for path in paths if path.suffix == suffix)
    return path.replace(OUTPUT / f"demo-{kind}{suffix}")


def check(video: Path, sound: Path, muxed: Path) -> list[str]:
    """Return the problems of the returned files; empty when they pass."""
    problems = []
    if _packets(video) != _packets(muxed):
        problems.append("the video stream is not a copy of the source's")
    with av.open(str(muxed)) as container:
        codecs = [stream.codec_context.name for stream in container.streams.audio]
    if codecs != ["aac"]:
        problems.append(f"the video's audio streams are {codecs}, expected AAC")
    with av.open(str(sound)) as container:
        rate = container.streams.audio[0].rate
    samples = read_samples(sound)
    expected = _duration_s(video) * rate
    if rate != 16_000 or abs(len(samples) - expected) > 1:
        problems.append(f"the audio has {len(samples)} samples at {rate} Hz, expected {expected:g} at 16000 Hz")
    if float(np.sqrt(np.mean(samples**2))) < 1e-3:
        problems.append("the audio is silent")
    return problems


def _duration_s(video: Path) -> float:
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        if stream.duration is None or stream.time_base is None:
            raise DemoFailedError(f"{video} does not state its duration")
        return float(stream.duration * stream.time_base)


def match_bounces(sound: Path, scene: Scene) -> Matches:
    """Match the onsets of the audio with the events of the scene it was generated for."""
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
        platform.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        platform.kill()
        platform.wait()


def _log(line: str) -> None:
    sys.stdout.write(f"demo: {line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
