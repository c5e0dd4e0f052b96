"""The sandboxed process: reads one instruction, works on one file that is already open, writes one answer, ends.

Started as `python -I -m workers.media.child` with an empty environment, a working folder of its own, the file as an
inherited descriptor and hard limits on memory, CPU time, file size and open files. It never imports torch, and it has
no secret to lose. Nothing it prints is trusted: the parent checks the answer's shape.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

from jobs.parentage import death_with_parent


def main() -> int:
    """Run one instruction from standard input; the exit status is 0 when an answer was written."""
    instruction = json.loads(sys.stdin.readline())
    death_with_parent(instruction["parent_pid"])()  # a worker that is killed cannot stop it any more
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_AS, instruction["memory_bytes"])
    _limit(resource.RLIMIT_CPU, instruction["cpu_s"])
    _limit(resource.RLIMIT_FSIZE, instruction["file_bytes"])
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; the parent shall see which limit it was
    # Imported under the limits: what they need counts as well.
    from mmaudio_model.errors import MediaError

    _limit(resource.RLIMIT_NOFILE, 64)
    try:
        answer = _work(instruction)
    except MediaError as exc:
        answer = {"error": type(exc).__name__, "message": str(exc)}
    except MemoryError:
        answer = {"error": "MediaTooLargeError", "message": "Reading the file needs more memory than is allowed."}
    Path("answer.json").write_text(json.dumps(answer))
    return 0


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _work(instruction: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from mmaudio_model.media.probe import MediaLimits, probe_video

    limits = MediaLimits(**instruction["limits"])
    arguments = instruction["arguments"]
    with os.fdopen(instruction["descriptor"], "rb") as file:
        match instruction["action"]:
            case "probe":
                return vars(probe_video(file, limits))
            case "frames":
                from mmaudio_model.media.frames import read_video_frames

                frames = read_video_frames(file, limits=limits, **arguments)
                np.save("clip.npy", frames.clip)
                np.save("sync.npy", frames.sync)
                return {"duration_s": frames.duration_s, "warnings": frames.warnings}
            case "image":
                from mmaudio_model.media.image import read_image

                np.save("clip.npy", read_image(file, limits=limits, **arguments).clip)
                return {}
            case "mux":
                from mmaudio_model.media.mux import mux_video

                waveform = np.load("waveform.npy", allow_pickle=False)
                result = mux_video(file, waveform, out_path=Path("out.video"), limits=limits, **arguments)
                return vars(result)
            case other:
                raise ValueError(f"unknown action {other!r}")


if __name__ == "__main__":
    sys.exit(main())
