"""The sandboxed process: confines itself, receives one instruction about one open file, answers, exits.

Forked from `forkserver`, with an empty environment and one socket; the slow imports are done. It gives up whatever it
does not need - other files, the network, memory beyond a limit, most system calls - before it reads the first byte of
the untrusted file. It never imports torch and holds no secret. It serves one file, so nothing of one file can get into
the answer about the next. Its answer is not trusted: the worker checks the form.
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

from workers.disk_full import is_disk_full
from workers.host.parent_death import die_with_parent
from workers.media.confinement import Layer, close_file_system, leave_network
from workers.media.system_calls import filter_system_calls

ROOT = Path(__file__).resolve().parents[2]
MESSAGE_BYTES = 64 * 1024
BEGUN = b"begun"
PROBE = "probe"
DISK_FULL = "DiskFull"


def main(socket_descriptor: int, parent_pid: int) -> int:
    """Receive one instruction and answer it; return the exit status, 0 also when no instruction came."""
    channel = socket.socket(fileno=socket_descriptor)
    _limit(resource.RLIMIT_CORE, 0)
    has_no_network = leave_network()
    # After it: changing the user namespace clears the parent-death signal.
    die_with_parent(parent_pid, signal.SIGKILL)()
    message, descriptors, _, _ = socket.recv_fds(channel, MESSAGE_BYTES, 3)
    if not message:
        return 0
    instruction = json.loads(message)
    folder, *given = descriptors
    os.fchdir(folder)
    missing = [] if has_no_network else [Layer.NAMESPACES]
    if not close_file_system(_code(), folder):
        missing.append(Layer.LANDLOCK)
    os.close(folder)
    if not filter_system_calls():
        missing.append(Layer.SECCOMP)
    _limit(resource.RLIMIT_AS, instruction["memory_bytes"])
    _limit(resource.RLIMIT_CPU, instruction["cpu_s"])
    _limit(resource.RLIMIT_FSIZE, instruction["file_bytes"])
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)  # Python ignores it; the exit status shall name the limit
    _limit(resource.RLIMIT_NOFILE, 64)
    channel.send(BEGUN)  # from now on, how the process ends is blamed on the file
    answer, arrays = _answer({**instruction, "descriptors": given})
    socket.send_fds(channel, [json.dumps({**answer, "missing": missing}).encode()], arrays)
    return 0


def _answer(instruction: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    from mmaudio_model.errors import MediaError

    try:
        return _work(instruction)
    except (MediaError, OSError) as exc:
        # FFmpeg reports a full disk with whatever it was doing; the file is not to blame then.
        if is_disk_full(exc):
            return {"error": DISK_FULL}, []
        if not isinstance(exc, MediaError):
            raise
        return {"error": type(exc).__name__, "message": str(exc)[:2000]}, []
    except MemoryError:
        return {"error": "MediaTooLargeError", "message": "Reading the file needs more memory than is allowed."}, []


def _code() -> list[Path]:
    """Return the folders of all code that may still be imported, and nothing else: ROOT may contain a data folder."""
    ours = [ROOT / name for name in ("jobs", "mmaudio_model", "workers")]
    installed = {Path(name) for name in (*sys.path, sys.prefix, sys.base_prefix, "/usr/lib", "/lib", "/lib64")}
    return [*ours, *(installed - {ROOT})]


def _limit(what: int, value: int) -> None:
    _, hard = resource.getrlimit(what)
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    resource.setrlimit(what, (value, value))


def _work(instruction: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Perform the action; return the answer and the descriptors of its arrays."""
    if instruction["action"] == PROBE:
        return {}, []
    import numpy as np

    from mmaudio_model.media.frames import read_video_frames
    from mmaudio_model.media.image import read_image
    from mmaudio_model.media.mux.writing import mux_video
    from mmaudio_model.media.probe import MediaLimits
    from workers.media.shared_memory import mapped, share

    limits = MediaLimits(**instruction["limits"])
    arguments = instruction["arguments"]
    descriptor, *arrays = instruction["descriptors"]
    with os.fdopen(descriptor, "rb") as file:
        match instruction["action"]:
            case "frames":
                frames = read_video_frames(file, limits=limits, **arguments)
                return (
                    {
                        "duration_s": frames.duration_s,
                        "warnings": [(warning.code, warning.text) for warning in frames.warnings],
                    },
                    [share(frames.clip), share(frames.sync)],
                )
            case "image":
                return {}, [share(read_image(file, limits=limits, **arguments).clip)]
            case "mux":
                waveform = mapped(arrays[0], np.float32, max_bytes=instruction["memory_bytes"])
                result = mux_video(file, waveform, out_path=Path("out.video"), limits=limits, **arguments)
                return vars(result), []
            case other:
                raise ValueError(f"unknown action {other!r}")
