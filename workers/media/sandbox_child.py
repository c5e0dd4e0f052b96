"""The sandboxed process: confines itself, takes one instruction about one open file, answers, ends.

Forked from `forkserver`, with an empty environment and one socket; what takes long to import is there. It gives up
whatever it does not need - other files, the network, memory beyond a limit - before it reads the first byte of the
stranger's file. It never imports torch and has no secret to lose. It serves one file, so nothing of one can get into
the answer about the next. Nothing it says is trusted: the worker checks the answer's form.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from workers.host.parent_death import die_with_parent
from workers.media.confinement import close_file_system, leave_network

ROOT = Path(__file__).resolve().parents[2]
MESSAGE_BYTES = 64 * 1024
BEGUN = b"begun"


def main(socket_descriptor: int, parent_pid: int) -> int:
    """Take one instruction and answer it; the exit status is 0 also when none ever came."""
    channel = socket.socket(fileno=socket_descriptor)
    _limit(resource.RLIMIT_CORE, 0)
    cut_off = leave_network()
    # After it: it is forgotten when a process changes its namespace.
    die_with_parent(parent_pid, signal.SIGKILL)()
    message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 3)
    if not message:
        return 0
    instruction = json.loads(message)
    folder, *given = descriptors
    os.fchdir(folder)
    missing = [] if cut_off else ["a network namespace"]
    if not close_file_system(_code(), folder):
        missing.append("Landlock")
    os.close(folder)
    _limit(resource.RLIMIT_AS, instruction["memory_bytes"])
    _limit(resource.RLIMIT_CPU, instruction["cpu_s"])
    _limit(resource.RLIMIT_FSIZE, instruction["file_bytes"])
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; the parent shall see which limit it was
    _limit(resource.RLIMIT_NOFILE, 64)
    channel.send(BEGUN)  # how the process ends from here on is told of the file
    answer, arrays = _answer({**instruction, "descriptors": given})
    socket.send_fds(channel, [json.dumps({**answer, "missing": missing}).encode()], arrays)
    return 0


def _answer(instruction: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    from mmaudio_model.errors import MediaError

    try:
        return _work(instruction)
    except MediaError as exc:
        return {"error": type(exc).__name__, "message": str(exc)[:2000]}, []
    except MemoryError:
        return {"error": "MediaTooLargeError", "message": "Reading the file needs more memory than is allowed."}, []


def _code() -> list[Path]:
    """Return the folders of all code that may still be imported, and of nothing else: a data folder may lie in ROOT."""
    ours = [ROOT / name for name in ("jobs", "mmaudio_model", "workers")]
    others = {Path(name) for name in (*sys.path, sys.prefix, sys.base_prefix, "/usr/lib", "/lib", "/lib64")}
    return [*ours, *(others - {ROOT})]


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _work(instruction: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Return the answer, and descriptors of the arrays that belong to it."""
    import numpy as np

    from mmaudio_model.media.frames import read_video_frames
    from mmaudio_model.media.image import read_image
    from mmaudio_model.media.mux import mux_video
    from mmaudio_model.media.probe import MediaLimits, probe_video
    from workers.media.shared_memory import mapped, share

    limits = MediaLimits(**instruction["limits"])
    arguments = instruction["arguments"]
    descriptor, *arrays = instruction["descriptors"]
    with os.fdopen(descriptor, "rb") as file:
        match instruction["action"]:
            case "probe":
                return vars(probe_video(file, limits)), []
            case "frames":
                frames = read_video_frames(file, limits=limits, **arguments)
                return (
                    {"duration_s": frames.duration_s, "warnings": frames.warnings},
                    [share(frames.clip), share(frames.sync)],
                )
            case "image":
                return {}, [share(read_image(file, limits=limits, **arguments).clip)]
            case "mux":
                waveform = mapped(arrays[0], np.float32, most_bytes=instruction["memory_bytes"])
                result = mux_video(file, waveform, out_path=Path("out.video"), limits=limits, **arguments)
                return vars(result), []
            case other:
                raise ValueError(f"unknown action {other!r}")
