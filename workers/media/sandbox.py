"""Runs the sandboxed process and turns however it ends into a result or a clear error of the job."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmaudio_model.errors import MediaError, MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.media.mux import MuxResult
from mmaudio_model.media.probe import MediaLimits, VideoInfo

log = logging.getLogger(__name__)

_ERRORS: dict[str, type[MediaError]] = {kind.__name__: kind for kind in (MediaInvalidError, MediaTooLargeError)}
BROKEN = "The file is damaged in a way that breaks its decoder."
COMPLAINT_CHARS = 2000
ROOT = Path(__file__).resolve().parents[2]


class SandboxStoppedError(Exception):
    """Raised in the waiting thread when `stop` ended the process (the job was canceled, or its worker stops)."""


@dataclass(frozen=True)
class SandboxLimits:
    """What one process may use. Bytes, seconds of CPU, seconds of wall time."""

    memory_bytes: int = 2 * 1024**3
    cpu_s: int = 240
    wall_s: float = 120.0
    file_bytes: int = 8 * 1024**3


class MediaSandbox:
    """Reads and muxes files of strangers, each call in a process of its own. Thread-safe.

    Args:
        scratch: folder below which each call gets a working folder of its own.

    Raises (all methods):
        MediaInvalidError: the file cannot be read, or reading it broke the process.
        MediaTooLargeError: the file is beyond the limits, or reading it was.
    """

    def __init__(self, media: MediaLimits, limits: SandboxLimits, scratch: Path) -> None:
        self._media, self._limits, self._scratch = media, limits, scratch
        self._lock = threading.Lock()
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._stopped: set[str] = set()

    def probe(self, path: Path, *, owner: str) -> VideoInfo:
        """Say what the container of a video says; `owner` names the call for `stop`."""
        with self._answer("probe", path, owner, {}) as (answer, _):
            return VideoInfo(**answer)

    def read_frames(
        self, path: Path, *, owner: str, start_s: float, duration_s: float, clip_size: int, sync_size: int
    ) -> VideoFrames:
        """See `mmaudio_model.media.frames.read_video_frames`."""
        arguments = {"start_s": start_s, "duration_s": duration_s, "clip_size": clip_size, "sync_size": sync_size}
        with self._answer("frames", path, owner, arguments) as (answer, folder):
            return VideoFrames(
                clip=_pixels(folder / "clip.npy", clip_size),
                sync=_pixels(folder / "sync.npy", sync_size),
                duration_s=float(answer["duration_s"]),
                warnings=tuple(str(text) for text in answer["warnings"]),
            )

    def read_image(self, path: Path, *, owner: str, clip_size: int) -> ImageFrame:
        """See `mmaudio_model.media.image.read_image`."""
        with self._answer("image", path, owner, {"clip_size": clip_size}) as (_, folder):
            return ImageFrame(clip=_pixels(folder / "clip.npy", clip_size))

    def mux(
        self,
        path: Path,
        waveform: np.ndarray,
        sample_rate_hz: int,
        out_path: Path,
        *,
        owner: str,
        start_s: float,
        duration_s: float,
        original_gain_db: float | None,
    ) -> MuxResult:
        """See `mmaudio_model.media.mux.mux_video`."""
        arguments = {
            "sample_rate_hz": sample_rate_hz,
            "start_s": start_s,
            "duration_s": duration_s,
            "original_gain_db": original_gain_db,
        }
        with self._answer("mux", path, owner, arguments, waveform) as (answer, folder):
            (folder / "out.video").replace(out_path)
            return MuxResult(**{**answer, "warnings": tuple(answer["warnings"])})

    def stop(self, owner: str) -> None:
        """End what runs for `owner`, if anything does."""
        with self._lock:
            process = self._running.get(owner)
            if process is not None:
                self._stopped.add(owner)
                process.kill()

    @contextlib.contextmanager
    def _answer(
        self, action: str, path: Path, owner: str, arguments: dict[str, Any], waveform: np.ndarray | None = None
    ) -> Iterator[tuple[dict[str, Any], Path]]:
        """Run one action; give its answer and its working folder, which is removed afterwards."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._scratch, prefix="media-") as name:
            folder = Path(name)
            if waveform is not None:
                np.save(folder / "waveform.npy", waveform)
            code = self._run(action, path, owner, arguments, folder)
            answer = _read_answer(folder) if code == 0 else None
            if answer is None:
                complaint = (folder / "stderr.txt").read_text(errors="replace")[-COMPLAINT_CHARS:]
                log.warning("the media process for %s ended with status %d: %r", owner, code, complaint)
                raise _broken(code)
            try:
                if "error" in answer:
                    raise _ERRORS[answer["error"]](answer["message"])
                yield answer, folder
            except (KeyError, TypeError, ValueError, FileNotFoundError) as exc:
                log.warning("the media process for %s gave an answer of a wrong form: %r", owner, exc)
                raise MediaInvalidError(BROKEN) from exc

    def _run(self, action: str, path: Path, owner: str, arguments: dict[str, Any], folder: Path) -> int:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            instruction = {
                "action": action,
                "parent_pid": os.getpid(),
                "descriptor": descriptor,
                "arguments": arguments,
                "limits": asdict(self._media),
                "memory_bytes": self._limits.memory_bytes,
                "cpu_s": self._limits.cpu_s,
                "file_bytes": self._limits.file_bytes,
            }
            with (folder / "stderr.txt").open("wb") as complaints:
                process = subprocess.Popen(
                    [sys.executable, "-I", "-c", _BOOT, str(ROOT)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=complaints,
                    cwd=folder,
                    env=_ENVIRONMENT,
                    pass_fds=(descriptor,),
                    start_new_session=True,
                )
        finally:
            os.close(descriptor)
        with self._lock:
            self._running[owner] = process
        try:
            process.communicate(json.dumps(instruction).encode() + b"\n", timeout=self._limits.wall_s)
        except subprocess.TimeoutExpired as exc:
            raise MediaTooLargeError(
                f"Reading the file took longer than the allowed {self._limits.wall_s:g} s."
            ) from exc
        finally:
            process.kill()
            process.wait()
            with self._lock:
                self._running.pop(owner, None)
                stopped = owner in self._stopped
                self._stopped.discard(owner)
        if stopped:
            raise SandboxStoppedError(owner)
        return process.returncode


# Nothing of the worker's own environment: it holds credentials.
_ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# -I leaves the working folder and PYTHONPATH out of the search path; our own packages come from where we came from.
_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from workers.media.child import main; sys.exit(main())"


def _read_answer(folder: Path) -> dict[str, Any] | None:
    try:
        answer = json.loads((folder / "answer.json").read_text())
    except (OSError, ValueError):
        return None
    return answer if isinstance(answer, dict) else None


def _broken(code: int) -> MediaError:
    """Say how a process ended that gave no answer: by a limit, or by a fault in the decoder."""
    if code in {-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGXFSZ}:
        return MediaTooLargeError("Reading the file needs more time or memory than is allowed.")
    return MediaInvalidError(BROKEN)


def _pixels(path: Path, size: int) -> np.ndarray:
    """Load frames that the process wrote, and trust nothing about them."""
    with path.open("rb") as file:
        frames = np.lib.format.read_array(file, allow_pickle=False)
    if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != (size, size, 3) or not len(frames):
        raise MediaInvalidError(BROKEN)
    return frames
