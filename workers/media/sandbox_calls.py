"""Runs one action on an untrusted file in a process of its own: starts it, limits it, ends it, judges its exit.

What an action returns does not belong here: that is `workers.media.sandbox`.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import signal
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmaudio_model.errors import MediaEncryptedError, MediaError, MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.probe import MediaLimits
from workers.media.confinement import Layer
from workers.media.sandbox_child import DISK_FULL, OUT_OF_MEMORY
from workers.media.sandbox_client import ChildExitedError, MediaProcess, MediaProcesses
from workers.media.sandbox_limits import MIB, SandboxLimits
from workers.media.shared_memory import share

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
# The second time limit, in units of the first: the machine may have been busy.
SECOND_TIME = 2
BROKEN = "The file is damaged in a way that breaks its decoder."


class SandboxStoppedError(Exception):
    """Raised in the waiting thread when `stop` killed the process (the job was canceled, or its worker stops)."""


class SandboxBrokenError(Exception):
    """Raised when no process can be started or kept: a fault of the machine, not of the file."""


class _OutOfTimeError(Exception):
    """Raised when a process has used up its wall time or its processor time."""


@dataclass(frozen=True)
class Answer:
    """The answer of a process, the descriptors of its arrays, and its folder; nothing of it is trusted."""

    facts: dict[str, Any]
    arrays: list[int]
    folder: Path


class SandboxCalls:
    """Runs actions. Thread-safe; one action per owner at a time.

    Args:
        scratch: folder below which each call gets a working folder of its own.
        prestart: start the fork server now; `close` stops it.
    """

    def __init__(self, media: MediaLimits, limits: SandboxLimits, scratch: Path, *, prestart: bool = False) -> None:
        self._media, self._limits, self._scratch = media, limits, scratch
        self._processes = MediaProcesses(prestart=prestart)
        self._lock = threading.Lock()
        self._running: dict[str, MediaProcess | None] = {}
        self._stopped: set[str] = set()
        self.missing: list[Layer] | None = None

    def stop(self, owner: str) -> None:
        """Kill the process that runs for `owner`, if there is one."""
        with self._lock:
            if owner not in self._running:
                return
            self._stopped.add(owner)
            process = self._running[owner]
            if process is not None:
                process.kill()

    def close(self) -> None:
        """Stop the fork server."""
        self._processes.close()

    @contextlib.contextmanager
    def answer(
        self,
        action: str,
        path: Path,
        owner: str,
        arguments: dict[str, Any],
        arrays: Sequence[np.ndarray] = (),
        *,
        wall_s: float | None = None,
    ) -> Iterator[Answer]:
        """Run one action and yield its answer; delete its working folder afterwards.

        One that runs out of time is repeated once, with more time.

        Args:
            wall_s: time limit of the first try; None: that of little work.

        Raises: as `MediaSandbox`.
        """
        self._scratch.mkdir(parents=True, exist_ok=True)
        first_s = wall_s or self._limits.wall_s
        with self._lock:
            self._running[owner] = None
        try:
            for limit_s in (first_s, first_s * SECOND_TIME):
                with contextlib.ExitStack() as stack:
                    try:
                        answer = self._try(stack, action, path, owner, arguments, arrays, limit_s)
                    except _OutOfTimeError as exc:
                        if limit_s > first_s:
                            raise MediaTooLargeError(_too_slow(first_s, limit_s)) from exc
                        log.warning("%s of %s took longer than %.1f s; it is tried once more", action, owner, limit_s)
                        continue
                    try:
                        yield answer
                    except (KeyError, IndexError, TypeError, ValueError, AttributeError, FileNotFoundError) as exc:
                        log.warning("the media process of %s sent a malformed answer: %r", owner, exc)
                        raise MediaInvalidError(BROKEN) from exc
                    return
        finally:
            with self._lock:
                del self._running[owner]
                self._stopped.discard(owner)

    def _try(
        self,
        stack: contextlib.ExitStack,
        action: str,
        path: Path,
        owner: str,
        arguments: dict[str, Any],
        arrays: Sequence[np.ndarray],
        wall_s: float,
    ) -> Answer:
        """Run an action in a process; `stack` closes and deletes what belongs to its answer."""
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=self._scratch, prefix="media-")))
        given = [_opened(stack, folder, os.O_DIRECTORY), _opened(stack, path)]
        for array in arrays:
            shared = share(array.astype(np.float32, copy=False))
            stack.callback(os.close, shared)
            given.append(shared)
        instruction = {
            "action": action,
            "arguments": arguments,
            "limits": asdict(self._media),
            "memory_bytes": self._limits.memory_bytes,
            "cpu_s": self._limits.cpu_for(wall_s),
            # Only a muxed video is a file; arrays are in memory, with a limit of their own.
            "file_bytes": self._limits.file_bytes if action == "mux" else self._limits.array_bytes,
        }
        message, descriptors = self._run(instruction, owner, given, wall_s)
        for descriptor in descriptors:
            stack.callback(os.close, descriptor)
        answer = _parsed(message)
        try:
            self._note_missing(answer.pop("missing"))
            match answer.get("error"):
                case None:
                    return Answer(answer, descriptors, folder)
                case error if error == DISK_FULL:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self._scratch))
                case error if error == OUT_OF_MEMORY:
                    raise MediaTooLargeError(self._limits.memory_exceeded)
                case error:
                    raise _ERRORS[error](self._limits.with_setting(str(answer["message"])))
        except (KeyError, TypeError, ValueError) as exc:
            log.warning("the media process of %s sent a malformed answer: %r", owner, exc)
            raise MediaInvalidError(BROKEN) from exc

    def _run(self, instruction: dict[str, Any], owner: str, given: list[int], wall_s: float) -> tuple[bytes, list[int]]:
        """Return the answer of a process and the descriptors that came with it."""
        process = self._instructed(instruction, owner, given)
        timed_out = False
        message, descriptors = b"", list[int]()
        try:
            message, descriptors = process.answer(wall_s)
        except TimeoutError:
            timed_out = True
        finally:
            with self._lock:
                self._running[owner] = None
                stopped = owner in self._stopped
            status, stderr = process.end(), process.stderr()
            process.close()
        if stopped:
            for descriptor in descriptors:
                os.close(descriptor)
            raise SandboxStoppedError(owner)
        if timed_out or (not message and status == -signal.SIGXCPU):
            raise _OutOfTimeError
        if not message and process.lost:
            raise SandboxBrokenError("The media process was lost because its fork server exited.")
        if not message:
            log.warning("the media process of %s exited with status %s: %r", owner, status, stderr)
            raise self._broken(status)
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
                if owner in self._stopped:
                    process.kill()
            try:
                process.instruct(instruction, given, timeout_s=BEGIN_TIMEOUT_S)
            except (ChildExitedError, TimeoutError) as exc:
                with self._lock:
                    self._running[owner] = None
                    stopped = owner in self._stopped
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
        first, self.missing = self.missing is None, layers if self.missing is None else self.missing
        if first and layers:
            log.warning(
                "media processes run without %s on this machine; update the kernel, or let the container use them",
                " and ".join(_LAYER_NAMES[layer] for layer in layers),
            )

    def _broken(self, code: int | None) -> MediaError:
        """Return the error of a process without an answer: it exceeded a limit, or its decoder crashed."""
        if code == -signal.SIGKILL:  # by the kernel, which has no memory left
            return MediaTooLargeError(self._limits.memory_exceeded)
        if code == -signal.SIGXFSZ:
            return MediaTooLargeError(
                f"The result is larger than the allowed {self._limits.file_bytes // MIB} MiB of a video, or "
                f"{self._limits.array_bytes // MIB} MiB of frames or sound; give a shorter section."
            )
        return MediaInvalidError(BROKEN)


def _too_slow(first_s: float, second_s: float) -> str:
    return (
        f"Reading the file took longer than the allowed {first_s:g} s, and longer than {second_s:g} s the second time; "
        "give a smaller or shorter video, or ask the operator for more (MMAUDIO_DECODE_TIMEOUT_S, "
        "MMAUDIO_DECODE_TIMEOUT_MAX_S)."
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
