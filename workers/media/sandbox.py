"""Passes untrusted files to sandboxed processes, and turns each answer or exit into a result or a clear error.

Starting and killing processes does not belong here: that is `workers.media.sandbox_client`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import math
import os
import signal
import stat
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmaudio_model.errors import MediaEncryptedError, MediaError, MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.media.media_warning import MediaWarning, WarningCode
from mmaudio_model.media.mux.writing import MuxResult
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS
from workers.media.confinement import Layer
from workers.media.sandbox_child import DISK_FULL
from workers.media.sandbox_client import ChildExitedError, MediaProcess, MediaProcesses
from workers.media.shared_memory import mapped, share

log = logging.getLogger(__name__)

_ERRORS: dict[str, type[MediaError]] = {
    kind.__name__: kind for kind in (MediaInvalidError, MediaEncryptedError, MediaTooLargeError)
}
_LAYER_NAMES = {
    Layer.NAMESPACES: "a network namespace",
    Layer.LANDLOCK: "Landlock",
    Layer.SECCOMP: "a filter of system calls (seccomp)",
}
BEGIN_TRIES = 3
BEGIN_TIMEOUT_S = 60.0
BROKEN = "The file is damaged in a way that breaks its decoder."


class SandboxStoppedError(Exception):
    """Raised in the waiting thread when `stop` killed the process (the job was canceled, or its worker stops)."""


class SandboxBrokenError(Exception):
    """Raised when no process can be started or kept: a fault of the machine, not of the file."""


@dataclass(frozen=True)
class SandboxLimits:
    """Resource limits of one process: bytes, seconds of CPU, seconds of wall time."""

    memory_bytes: int = 2 * 1024**3
    cpu_s: int = 240
    wall_s: float = 120.0
    file_bytes: int = 8 * 1024**3
    array_bytes: int = 512 * 1024**2


@dataclass(frozen=True)
class _Answer:
    """The answer of a process, the descriptors of its arrays, and its folder; nothing of it is trusted."""

    facts: dict[str, Any]
    arrays: list[int]
    folder: Path


class MediaSandbox:
    """Reads and muxes untrusted files, each call in a process of its own. Thread-safe.

    Args:
        scratch: folder below which each call gets a working folder of its own.
        prestart: start the fork server now; `close` stops it.

    Raises (all methods):
        MediaInvalidError: the file cannot be read, or reading it crashed the process.
        MediaTooLargeError: the file, or reading it, exceeds the limits.
        SandboxStoppedError: `stop` was called for the owner.
        SandboxBrokenError: no process can be started, or the process was lost and the file is not to blame.
        OSError: the scratch folder cannot be written; with ENOSPC when its disk is full.
    """

    def __init__(self, media: MediaLimits, limits: SandboxLimits, scratch: Path, *, prestart: bool = False) -> None:
        self._media, self._limits, self._scratch = media, limits, scratch
        self._processes = MediaProcesses(prestart=prestart)
        self._lock = threading.Lock()
        self._running: dict[str, MediaProcess] = {}
        self._stopped: set[str] = set()
        self._missing: list[Layer] | None = None

    def read_frames(
        self, path: Path, *, owner: str, start_s: float, duration_s: float, clip_size: int, sync_size: int
    ) -> VideoFrames:
        """Read a video: see `mmaudio_model.media.frames.read_video_frames`; `owner` names the call for `stop`."""
        arguments = {"start_s": start_s, "duration_s": duration_s, "clip_size": clip_size, "sync_size": sync_size}
        with self._answer("frames", path, owner, arguments) as answer:
            clip, sync = answer.arrays
            return VideoFrames(
                clip=_pixels(clip, clip_size, math.ceil(duration_s * CLIP_FPS)),
                sync=_pixels(sync, sync_size, math.ceil(duration_s * SYNC_FPS)),
                duration_s=float(answer.facts["duration_s"]),
                warnings=tuple(MediaWarning(WarningCode(code), str(text)) for code, text in answer.facts["warnings"]),
            )

    def read_image(self, path: Path, *, owner: str, clip_size: int) -> ImageFrame:
        """Read an image: see `mmaudio_model.media.image.read_image`."""
        with self._answer("image", path, owner, {"clip_size": clip_size}) as answer:
            (clip,) = answer.arrays
            return ImageFrame(clip=_pixels(clip, clip_size, 1))

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
        """Add sound to a video: see `mmaudio_model.media.mux.writing.mux_video`."""
        arguments = {
            "sample_rate_hz": sample_rate_hz,
            "start_s": start_s,
            "duration_s": duration_s,
            "original_gain_db": original_gain_db,
        }
        with self._answer("mux", path, owner, arguments, waveform) as answer:
            muxed = answer.folder / "out.video"
            facts = muxed.lstat()
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                raise ValueError("the result is not a regular file with one link")  # a link would publish another file
            muxed.replace(out_path)
            return MuxResult(**{**answer.facts, "warnings": tuple(answer.facts["warnings"])})

    def missing_layers(self) -> list[str]:
        """Return which layers of confinement this machine refuses; starts a process that reads no file."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with self._answer("probe", self._scratch, f"probe-{id(self)}", {}):
            return [str(layer) for layer in self._missing or ()]

    def stop(self, owner: str) -> None:
        """Kill the process that runs for `owner`, if there is one."""
        with self._lock:
            process = self._running.get(owner)
            if process is not None:
                self._stopped.add(owner)
                process.kill()

    def close(self) -> None:
        """Stop the fork server."""
        self._processes.close()

    @contextlib.contextmanager
    def _answer(
        self, action: str, path: Path, owner: str, arguments: dict[str, Any], waveform: np.ndarray | None = None
    ) -> Iterator[_Answer]:
        """Run one action and yield its answer; delete its working folder afterwards."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._scratch, prefix="media-")))
            given = [_opened(stack, folder, os.O_DIRECTORY), _opened(stack, path)]
            if waveform is not None:
                shared = share(waveform.astype(np.float32, copy=False))
                stack.callback(os.close, shared)
                given.append(shared)
            message, descriptors = self._run(action, owner, arguments, given)
            for descriptor in descriptors:
                stack.callback(os.close, descriptor)
            answer = _parsed(message)
            try:
                self._note_missing(answer.pop("missing"))
                if answer.get("error") == DISK_FULL:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._scratch))
                if "error" in answer:
                    raise _ERRORS[answer["error"]](answer["message"])
                yield _Answer(answer, descriptors, folder)
            except (KeyError, IndexError, TypeError, ValueError, FileNotFoundError) as exc:
                log.warning("the media process of %s sent a malformed answer: %r", owner, exc)
                raise MediaInvalidError(BROKEN) from exc

    def _run(self, action: str, owner: str, arguments: dict[str, Any], given: list[int]) -> tuple[bytes, list[int]]:
        """Run one action in a process; return its answer and the descriptors that came with it."""
        instruction = {
            "action": action,
            "arguments": arguments,
            "limits": asdict(self._media),
            "memory_bytes": self._limits.memory_bytes,
            "cpu_s": self._limits.cpu_s,
            # Only a muxed video is a file; arrays are in memory, with a limit of their own.
            "file_bytes": self._limits.file_bytes if action == "mux" else self._limits.array_bytes,
        }
        process = self._instructed(instruction, owner, given)
        try:
            message, descriptors = process.answer(self._limits.wall_s)
        except TimeoutError as exc:
            raise MediaTooLargeError(
                f"Reading the file took longer than the allowed {self._limits.wall_s:g} s."
            ) from exc
        finally:
            with self._lock:
                del self._running[owner]
                stopped = owner in self._stopped
                self._stopped.discard(owner)
            status, stderr = process.end(), process.stderr()
            process.close()
        if stopped:
            for descriptor in descriptors:
                os.close(descriptor)
            raise SandboxStoppedError(owner)
        if not message and process.lost:
            raise SandboxBrokenError("The media process was lost because its fork server exited.")
        if not message:
            log.warning("the media process of %s exited with status %s: %r", owner, status, stderr)
            raise _broken(status)
        return message, descriptors

    def _instructed(self, instruction: dict[str, Any], owner: str, given: list[int]) -> MediaProcess:
        """Return a process that has begun to work; the file is not to blame for one that exits before."""
        for _ in range(BEGIN_TRIES):
            try:
                process = self._processes.fork()
            except ChildExitedError as exc:
                log.warning("could not fork a media process: %s", exc)
                continue
            with self._lock:
                self._running[owner] = process
            try:
                process.instruct(instruction, given, timeout_s=BEGIN_TIMEOUT_S)
            except (ChildExitedError, TimeoutError) as exc:
                with self._lock:
                    del self._running[owner]
                    stopped = owner in self._stopped
                    self._stopped.discard(owner)
                process.end()
                process.close()
                if stopped:
                    raise SandboxStoppedError(owner) from exc
                log.warning("a media process exited before it began: %s", exc)
            else:
                return process
        raise SandboxBrokenError(f"No media process could be started on this machine in {BEGIN_TRIES} tries.")

    def _note_missing(self, missing: list[str]) -> None:
        """Keep and log what the first process says that the kernel does not support; the other layers still apply."""
        layers = [layer for layer in Layer if layer in missing]
        first, self._missing = self._missing is None, layers if self._missing is None else self._missing
        if first and layers:
            log.warning(
                "media processes run without %s on this machine; update the kernel, or let the container use them",
                " and ".join(_LAYER_NAMES[layer] for layer in layers),
            )


def _opened(stack: contextlib.ExitStack, path: Path, flags: int = 0) -> int:
    descriptor = os.open(path, os.O_RDONLY | flags)
    stack.callback(os.close, descriptor)
    return descriptor


def _parsed(message: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(message)
    except ValueError as exc:
        raise MediaInvalidError(BROKEN) from exc
    if not isinstance(answer, dict):
        raise MediaInvalidError(BROKEN)
    return answer


def _broken(code: int | None) -> MediaError:
    """Return the error of a process without an answer: it exceeded a limit, or its decoder crashed."""
    if code in {-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGXFSZ}:
        return MediaTooLargeError("Reading the file needs more time or memory than is allowed.")
    return MediaInvalidError(BROKEN)


def _pixels(descriptor: int, size: int, max_frames: int) -> np.ndarray:
    """Return the frames that a process made, uint8 (T, size, size, 3), after checking their size."""
    frame_bytes = size * size * 3
    return mapped(descriptor, np.uint8, max_bytes=max_frames * frame_bytes).reshape(-1, size, size, 3)
