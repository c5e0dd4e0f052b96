"""Gives files of strangers to sandboxed processes, and turns however each ends into a result or a clear error."""

from __future__ import annotations

import contextlib
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

from mmaudio_model.errors import MediaError, MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.media.mux import MuxResult
from mmaudio_model.media.probe import MediaLimits, VideoInfo
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS
from workers.media.sandbox_client import ChildExitedError, MediaProcess, MediaProcesses
from workers.media.shared_memory import mapped, share

log = logging.getLogger(__name__)

_ERRORS: dict[str, type[MediaError]] = {kind.__name__: kind for kind in (MediaInvalidError, MediaTooLargeError)}
BEGIN_TRIES = 3
BEGIN_WITHIN_S = 60.0
BROKEN = "The file is damaged in a way that breaks its decoder."


class SandboxStoppedError(Exception):
    """Raised in the waiting thread when `stop` ended the process (the job was canceled, or its worker stops)."""


class SandboxBrokenError(Exception):
    """Raised when no process can be started or kept here: a fault of the machine, not of the file."""


@dataclass(frozen=True)
class SandboxLimits:
    """What one process may use. Bytes, seconds of CPU, seconds of wall time."""

    memory_bytes: int = 2 * 1024**3
    cpu_s: int = 240
    wall_s: float = 120.0
    file_bytes: int = 8 * 1024**3
    array_bytes: int = 512 * 1024**2


@dataclass(frozen=True)
class _Answer:
    """What a process said, descriptors of its arrays, and its folder; nothing of it is trusted."""

    facts: dict[str, Any]
    arrays: list[int]
    folder: Path


class MediaSandbox:
    """Reads and muxes files of strangers, each call in a process of its own. Thread-safe.

    Args:
        scratch: folder below which each call gets a working folder of its own.
        ahead: make ready for the first file now; `close` ends what was started.

    Raises (all methods):
        MediaInvalidError: the file cannot be read, or reading it broke the process.
        MediaTooLargeError: the file is beyond the limits, or reading it was.
        SandboxStoppedError: `stop` was called for its owner.
        SandboxBrokenError: no process can be started here, or it was lost by no fault of the file.
    """

    def __init__(self, media: MediaLimits, limits: SandboxLimits, scratch: Path, *, ahead: bool = False) -> None:
        self._media, self._limits, self._scratch = media, limits, scratch
        self._processes = MediaProcesses(ahead=ahead)
        self._lock = threading.Lock()
        self._running: dict[str, MediaProcess] = {}
        self._stopped: set[str] = set()
        self._told = False

    def probe(self, path: Path, *, owner: str) -> VideoInfo:
        """Say what the container of a video says; `owner` names the call for `stop`."""
        with self._answer("probe", path, owner, {}) as answer:
            return VideoInfo(**answer.facts)

    def read_frames(
        self, path: Path, *, owner: str, start_s: float, duration_s: float, clip_size: int, sync_size: int
    ) -> VideoFrames:
        """See `mmaudio_model.media.frames.read_video_frames`."""
        arguments = {"start_s": start_s, "duration_s": duration_s, "clip_size": clip_size, "sync_size": sync_size}
        with self._answer("frames", path, owner, arguments) as answer:
            clip, sync = answer.arrays
            return VideoFrames(
                clip=_pixels(clip, clip_size, math.ceil(duration_s * CLIP_FPS)),
                sync=_pixels(sync, sync_size, math.ceil(duration_s * SYNC_FPS)),
                duration_s=float(answer.facts["duration_s"]),
                warnings=tuple(str(text) for text in answer.facts["warnings"]),
            )

    def read_image(self, path: Path, *, owner: str, clip_size: int) -> ImageFrame:
        """See `mmaudio_model.media.image.read_image`."""
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
        """See `mmaudio_model.media.mux.mux_video`."""
        arguments = {
            "sample_rate_hz": sample_rate_hz,
            "start_s": start_s,
            "duration_s": duration_s,
            "original_gain_db": original_gain_db,
        }
        with self._answer("mux", path, owner, arguments, waveform) as answer:
            made = answer.folder / "out.video"
            facts = made.lstat()
            if not stat.S_ISREG(facts.st_mode) or facts.st_nlink != 1:
                raise ValueError("the result is no file of its own")  # a link would have the worker publish another one
            made.replace(out_path)
            return MuxResult(**{**answer.facts, "warnings": tuple(answer.facts["warnings"])})

    def stop(self, owner: str) -> None:
        """End what runs for `owner`, if anything does."""
        with self._lock:
            process = self._running.get(owner)
            if process is not None:
                self._stopped.add(owner)
                process.kill()

    def close(self) -> None:
        """End what waits for a file."""
        self._processes.close()

    @contextlib.contextmanager
    def _answer(
        self, action: str, path: Path, owner: str, arguments: dict[str, Any], waveform: np.ndarray | None = None
    ) -> Iterator[_Answer]:
        """Run one action; give its answer. Its working folder is removed afterwards."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._scratch, prefix="media-")))
            given = [_kept_open(stack, folder, os.O_DIRECTORY), _kept_open(stack, path)]
            if waveform is not None:
                shared = share(waveform.astype(np.float32, copy=False))
                stack.callback(os.close, shared)
                given.append(shared)
            message, descriptors = self._run(action, owner, arguments, given)
            for descriptor in descriptors:
                stack.callback(os.close, descriptor)
            answer = _parsed(message)
            try:
                self._tell_missing(answer.pop("missing"))
                if "error" in answer:
                    raise _ERRORS[answer["error"]](answer["message"])
                yield _Answer(answer, descriptors, folder)
            except (KeyError, IndexError, TypeError, ValueError, FileNotFoundError) as exc:
                log.warning("the media process for %s gave an answer of a wrong form: %r", owner, exc)
                raise MediaInvalidError(BROKEN) from exc

    def _run(self, action: str, owner: str, arguments: dict[str, Any], given: list[int]) -> tuple[bytes, list[int]]:
        """Have a process do one action; return what it says and the descriptors that came with it."""
        instruction = {
            "action": action,
            "arguments": arguments,
            "limits": asdict(self._media),
            "memory_bytes": self._limits.memory_bytes,
            "cpu_s": self._limits.cpu_s,
            # Only a result is a file; arrays lie in memory, and must not grow beyond its limit.
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
            raise SandboxBrokenError("The media process was lost with the one that it was forked from.")
        if not message:
            log.warning("the media process for %s ended with status %s: %r", owner, status, stderr)
            raise _broken(status)
        return message, descriptors

    def _instructed(self, instruction: dict[str, Any], owner: str, given: list[int]) -> MediaProcess:
        """Return a process that has begun; one that ends before, by whatever hand, is not the file's fault."""
        for _ in range(BEGIN_TRIES):
            try:
                process = self._processes.fork()
            except ChildExitedError as exc:
                log.warning("no media process could be forked: %s", exc)
                continue
            with self._lock:
                self._running[owner] = process
            try:
                process.instruct(instruction, given, within_s=BEGIN_WITHIN_S)
            except (ChildExitedError, TimeoutError) as exc:
                with self._lock:
                    del self._running[owner]
                    stopped = owner in self._stopped
                    self._stopped.discard(owner)
                process.end()
                process.close()
                if stopped:
                    raise SandboxStoppedError(owner) from exc
                log.warning("a media process did not begin: %s", exc)
            else:
                return process
        raise SandboxBrokenError(f"No media process could begin on this machine, in {BEGIN_TRIES} tries.")

    def _tell_missing(self, missing: list[str]) -> None:
        """Say once what the kernel here does not give; the other layers hold."""
        if missing and not self._told:
            self._told = True
            log.warning("media processes run without %s on this machine", " and ".join(map(str, missing)))


def _kept_open(stack: contextlib.ExitStack, path: Path, flags: int = 0) -> int:
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
    """Say how a process ended that gave no answer: by a limit, or by a fault in the decoder."""
    if code in {-signal.SIGXCPU, -signal.SIGKILL, -signal.SIGXFSZ}:
        return MediaTooLargeError("Reading the file needs more time or memory than is allowed.")
    return MediaInvalidError(BROKEN)


def _pixels(descriptor: int, size: int, most: int) -> np.ndarray:
    """Return frames that the process made, uint8 (T, size, size, 3), and trust nothing about them."""
    frame_bytes = size * size * 3
    return mapped(descriptor, np.uint8, most_bytes=most * frame_bytes).reshape(-1, size, size, 3)
