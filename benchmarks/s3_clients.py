"""CPU per job for an input and a delivery in S3, with the process's shared client: `python -m benchmarks.s3_clients`.

The worker's own code downloads a 1 MB input and delivers a file of 100 kB; moto's server runs in a process of its own.
The baseline, alternating in the same run, builds a client for each of the two, as the worker once did.
"""

from __future__ import annotations

import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx

from jobs.lifecycle import ArtifactKind
from jobs.service.attempts import Claim, NewArtifact
from jobs.settings import Settings
from jobs.storage.local import LocalStore
from jobs.storage.s3 import client as s3
from local_services.ports import free_port
from local_services.s3 import CREDENTIALS
from workers.runner.delivery import AttemptDelivery
from workers.runner.inputs import fetch_input

JOBS = 20
WARM_UP = 2
INPUT_BYTES, OUTPUT_BYTES = 1_000_000, 100_000
BUCKET = "benchmark"
READY_TIMEOUT_S = 60.0


def main() -> None:
    """Run jobs with and without the shared client; print the median CPU time of each."""
    os.environ.update(CREDENTIALS)
    with tempfile.TemporaryDirectory(prefix="mmaudio-bench-") as name, _s3_server() as endpoint:
        folder = Path(name)
        settings = Settings(data_dir=folder, s3_endpoint_url=endpoint, s3_addressing_style="path")
        client = s3.s3_client(s3.ClientOptions.from_settings(settings))
        client.create_bucket(Bucket=BUCKET)
        client.put_object(Bucket=BUCKET, Key="input.mp4", Body=os.urandom(INPUT_BYTES))
        (folder / "output").write_bytes(os.urandom(OUTPUT_BYTES))
        seconds: dict[bool, list[float]] = {False: [], True: []}
        for number in range(WARM_UP + JOBS):
            for shared in (False, True):
                took_s = _run_job(settings, folder, f"job_{number}_{shared}", shared=shared)
                if number >= WARM_UP:
                    seconds[shared].append(took_s)
    built_s, shared_s = (statistics.median(seconds[shared]) for shared in (False, True))
    print(
        f"CPU per job with input and delivery in S3: {built_s * 1000:.0f} ms with two clients built (baseline), ",
        end="",
    )
    print(f"{shared_s * 1000:.0f} ms with the shared one: {built_s / shared_s:.1f} times less")


def _run_job(settings: Settings, folder: Path, job_id: str, *, shared: bool) -> float:
    """Download the input and deliver the output of one job; return the CPU seconds."""
    claim = Claim(
        job_id=job_id,
        attempt=1,
        worker_id="w",
        tenant="default",
        variant="tiny_16k",
        request={"deliver_to": f"s3://{BUCKET}/out/"},
        input_key=f"s3://{BUCKET}/input.mp4",
        created_at=datetime.now(UTC),
        started_at=datetime.now(UTC),
        queued_s=0.0,
    )
    artifact = NewArtifact(
        "audio.flac", ArtifactKind.AUDIO, "flac", "audio/flac", "k", OUTPUT_BYTES, "0" * 64, 8.0, take=0, seed=7
    )
    began = time.process_time()
    if not shared:
        s3._clients.clear()
    fetch_input(claim, LocalStore(folder), settings, folder / "input")
    if not shared:
        s3._clients.clear()
    delivery = AttemptDelivery.of(claim, settings)
    assert delivery is not None
    delivery.put(artifact, folder / "output")
    return time.process_time() - began


@contextlib.contextmanager
def _s3_server() -> Iterator[str]:
    """Run moto's server in a process of its own, so that its CPU time is not counted; yield its URL."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_until_ready(url, process)
        yield url
    finally:
        process.terminate()
        process.wait()


def _wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            httpx.get(url, trust_env=False)
            return
        time.sleep(0.1)
    raise RuntimeError(f"the S3 server at {url} was not ready within {READY_TIMEOUT_S:g} s")


if __name__ == "__main__":
    main()
