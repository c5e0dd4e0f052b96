"""Gain by batching, by a second device and by the feature cache, and overhead of the platform per job.

    python -m benchmarks.workers [NAME ...]

Each figure is a ratio, or a time besides the model's own, within one run.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from benchmarks.platform_harness import PlatformHarness, run_platform
from benchmarks.serving import percentile
from jobs.db.tables import Job

JOBS = 8
CLIP_S, LONG_CLIP_S = 1.0, 8.0
STEPS = 25


def _fields(platform: PlatformHarness, seed: int) -> dict[str, Any]:
    return {"video": platform.video(CLIP_S, seed), "prompt": f"prompt {seed}", "seed": seed, "num_steps": STEPS}


def batching() -> None:
    """Run 8 queued jobs and the same 8 one at a time, on one worker with one thread and without a cache."""
    with run_platform("cpu:0", MMAUDIO_FEATURE_CACHE_BYTES="0", MMAUDIO_FEATURE_TTL_S="0") as platform:
        platform.wait([platform.submit(**_fields(platform, 0))])  # warms up
        first = [_fields(platform, seed) for seed in range(1, 1 + JOBS)]
        began = time.monotonic()
        for fields in first:
            platform.wait([platform.submit(**fields)])
        alone_s = time.monotonic() - began
        began = time.monotonic()
        jobs = platform.wait([platform.submit(**fields) for fields in first])
        together_s = time.monotonic() - began
    waited = sum(job.timings["queue_s"] for job in jobs) / len(jobs)
    print(f"batching: {JOBS} jobs one at a time {alone_s:.1f} s, together {together_s:.1f} s: ", end="")
    print(f"{alone_s / together_s:.2f} times the throughput (mean wait for a slot {waited:.2f} s)")


def two_devices() -> None:
    """Compare two CPU devices with one, one thread each: sounds of 8 s, for a prompt and for a video."""
    for with_video in (False, True):
        durations = []
        for devices in ("cpu:0", "cpu:0,cpu:1"):
            with run_platform(devices, MMAUDIO_FEATURE_CACHE_BYTES="0", MMAUDIO_FEATURE_TTL_S="0") as platform:
                work: list[dict[str, Any]] = [
                    {"video": platform.video(LONG_CLIP_S, seed)} if with_video else {"duration_s": LONG_CLIP_S}
                    for seed in range(2 * JOBS)
                ]
                for seed, fields in enumerate(work):
                    fields |= {"prompt": f"prompt {seed}", "seed": seed, "num_steps": STEPS}
                platform.wait([platform.submit(**fields) for fields in work[:2]])
                before, began = platform.cpu_s(), time.monotonic()
                jobs = platform.wait([platform.submit(**fields) for fields in work])
                durations.append(time.monotonic() - began)
                used = platform.cpu_s() - before
                shares = sorted(Counter(job.worker_id for job in jobs).values())
            print(f"  {devices}: {durations[-1]:.1f} s; jobs per device {shares}; CPU seconds: ", end="")
            print(f"devices {used.devices:.1f}, media {used.media:.1f}, benchmark {used.benchmark:.1f}")
        one, two = durations
        print(
            f"two devices: {2 * JOBS} sounds of {LONG_CLIP_S:g} s for {'a video' if with_video else 'a prompt'}: ",
            end="",
        )
        print(f"{one / two:.2f} times the throughput of one")


def feature_cache() -> None:
    """Compare the encode stage of a second prompt on the same 8 s video with the first one's."""
    with run_platform("cpu:0") as platform:
        platform.wait([platform.submit(**_fields(platform, 0))])  # warms up; caches the empty prompt
        ratios = []
        for seed in range(1, 6):
            video = platform.video(8.0, seed)
            first, second = (
                platform.wait([platform.submit(video=video, prompt=f"{words} {seed}", seed=1, num_steps=2, mux=False)])[
                    0
                ]
                for words in ("first", "second")
            )
            ratios.append((_input_s(first), _input_s(second), first.timings["encode_s"], second.timings["encode_s"]))
    decode = [first / second for first, second, _, _ in ratios]
    encode = [first / second for _, _, first, second in ratios]
    first_s, second_s = (statistics.median(row[place] for row in ratios) for place in (2, 3))
    print(f"feature cache: encode {first_s * 1000:.0f} ms, second prompt {second_s * 1000:.1f} ms: ", end="")
    print(f"{statistics.median(encode):.0f} times shorter; decoding {statistics.median(decode):.0f} times")


def _input_s(job: Job) -> float:
    return float(job.timings["decode_s"])


def overhead() -> None:
    """Measure a job's time besides the model's own, and from commit to claim, on an idle worker."""
    overheads, claimed = [], []
    with run_platform("cpu:0", MMAUDIO_FEATURE_CACHE_BYTES="0", MMAUDIO_FEATURE_TTL_S="0") as platform:
        for number in range(60):
            fields = {"prompt": f"prompt {number}", "duration_s": 0.64, "num_steps": 2, "audio_format": "wav"}
            (job,) = platform.wait([platform.submit(**fields)])
            if number < 5:
                continue
            timings = job.timings
            claimed.append(timings["queue_s"])
            model_s = sum(timings[f"{stage}_s"] for stage in ("encode", "sample", "vocode"))
            overheads.append((job.finished_at - job.created_at).total_seconds() - model_s)  # type: ignore[operator]
    print(f"overhead: {statistics.median(overheads) * 1000:.0f} ms median besides the model; ", end="")
    print(f"commit to claim p50 {percentile(claimed, 0.5):.0f} ms, p99 {percentile(claimed, 0.99):.0f} ms")


ALL: dict[str, Callable[[], None]] = {
    "batching": batching,
    "two_devices": two_devices,
    "feature_cache": feature_cache,
    "overhead": overhead,
}


def main(names: list[str] | None = None) -> None:
    for name in names or ALL:
        ALL[name]()


if __name__ == "__main__":
    main(sys.argv[1:])
