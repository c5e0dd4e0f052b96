"""What a worker gains by holding several jobs, a second device, and the feature cache; and what the platform costs.

Each figure is a ratio (or a time beside the model's own) within one run. `python -m benchmarks.workers [NAME ...]`.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable

from benchmarks.platform_harness import PlatformHarness, run_platform
from benchmarks.serving import percentile
from jobs.db.tables import Job

JOBS = 8
CLIP_S, LONG_CLIP_S = 1.0, 8.0
STEPS = 25


def _fields(platform: PlatformHarness, seed: int) -> dict[str, object]:
    return {"video": platform.video(CLIP_S, seed), "prompt": f"prompt {seed}", "seed": seed, "num_steps": STEPS}


def batching() -> None:
    """8 waiting jobs against the same 8 one at a time, one worker with one thread, nothing cached."""
    with run_platform("cpu:0", MMAUDIO_FEATURE_CACHE_BYTES="0", MMAUDIO_FEATURE_TTL_S="0") as platform:
        platform.wait([platform.submit(**_fields(platform, 0))])  # warm
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
    """Two CPU devices with one thread each against one: sounds of 8 s, for words and for a video."""
    for seen in (False, True):
        took = []
        for devices in ("cpu:0", "cpu:0,cpu:1"):
            with run_platform(devices, MMAUDIO_FEATURE_CACHE_BYTES="0", MMAUDIO_FEATURE_TTL_S="0") as platform:
                work = [
                    {"video": platform.video(LONG_CLIP_S, seed)} if seen else {"duration_s": LONG_CLIP_S}
                    for seed in range(2 * JOBS)
                ]
                for seed, fields in enumerate(work):
                    fields |= {"prompt": f"prompt {seed}", "seed": seed, "num_steps": STEPS}
                platform.wait([platform.submit(**fields) for fields in work[:2]])
                before, began = platform.cpu_s(), time.monotonic()
                jobs = platform.wait([platform.submit(**fields) for fields in work])
                took.append(time.monotonic() - began)
                used = platform.cpu_s() - before
                shares = sorted(Counter(job.worker_id for job in jobs).values())
            print(f"  {devices}: {took[-1]:.1f} s; jobs of each device {shares}; processor seconds: ", end="")
            print(f"devices {used.devices:.1f}, media {used.media:.1f}, benchmark {used.benchmark:.1f}")
        one, two = took
        print(f"two devices: {2 * JOBS} sounds of {LONG_CLIP_S:g} s for {'a video' if seen else 'words'}: ", end="")
        print(f"{one / two:.2f} times as many a minute as on one")


def feature_cache() -> None:
    """The encode stage of another prompt on the same 8 s video against the first one's."""
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
    """Everything of a job but the model's own time and the media's, and from commit to claim, on an idle worker."""
    rest, claimed = [], []
    with run_platform("cpu:0", MMAUDIO_FEATURE_CACHE_BYTES="0", MMAUDIO_FEATURE_TTL_S="0") as platform:
        for number in range(60):
            fields = {"prompt": f"words {number}", "duration_s": 0.64, "num_steps": 2, "audio_format": "wav"}
            (job,) = platform.wait([platform.submit(**fields)])
            if number < 5:
                continue
            timings = job.timings
            claimed.append(timings["queue_s"])
            model_s = sum(timings[f"{stage}_s"] for stage in ("encode", "sample", "vocode"))
            rest.append((job.finished_at - job.created_at).total_seconds() - model_s)  # type: ignore[operator]
    print(f"overhead: {statistics.median(rest) * 1000:.0f} ms median beside the model; ", end="")
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
