"""Media processes, and a few of them started ahead: starting and importing takes longer than reading most files.

Each serves one file and ends (docs/adr/0006): a process that a stranger's file has taken over has no next file.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

from workers.media.child import BEGUN, MESSAGE_BYTES

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
# Nothing of the worker's own environment: it holds credentials.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# -I leaves the working folder and PYTHONPATH out of the search path; our own packages come from where we came from.
BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from workers.media.child import main; "
    "sys.exit(main(*map(int, sys.argv[2:])))"
)
ANSWER_ARRAYS = 2
COMPLAINT_CHARS = 2000
# A process that has closed its socket is about to end by itself; how it does says what went wrong.
LAST_BREATH_S = 1.0
LOOK_S = 0.01
RETRY_S = 5.0


class GoneError(Exception):
    """Raised when a process ended before it took its instruction; another one may."""


class MediaProcess:
    """One process for one file. Everything but `kill` belongs to one thread."""

    def __init__(self) -> None:
        self._complaints = os.memfd_create("complaints")
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-c", BOOT, str(ROOT), str(theirs.fileno()), str(os.getpid())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self._complaints,
                cwd="/",
                env=ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        """Say whether it has ended. It is not reaped before `end`, so that its pid stays its own."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def instruct(self, instruction: dict[str, Any], descriptors: list[int], *, within_s: float) -> None:
        """Hand over the instruction and the open files it is about; return when the process begins with them.

        Raises:
            GoneError: the process ended before it began, by whatever hand.
            TimeoutError: it took longer.
        """
        self._channel.settimeout(within_s)
        try:
            socket.send_fds(self._channel, [json.dumps(instruction).encode()], descriptors)
            begun = self._channel.recv(len(BEGUN))
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise GoneError(self.complaints()) from exc
        if begun != BEGUN:
            raise GoneError(self.complaints())

    def answer(self, within_s: float) -> tuple[bytes, list[int]]:
        """Wait for the answer and the descriptors of its arrays, which the caller closes; empty: it ended without one.

        Raises:
            TimeoutError: it took longer.
        """
        self._channel.settimeout(within_s)
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, ANSWER_ARRAYS)
        except ConnectionResetError:
            return b"", []
        if not message:
            self._await_end(LAST_BREATH_S)
        return message, descriptors

    def _await_end(self, within_s: float) -> None:
        deadline = time.monotonic() + within_s
        while not self.ended and time.monotonic() < deadline:
            time.sleep(LOOK_S)

    def kill(self) -> None:
        """End it from any thread, while another one waits for its answer."""
        os.kill(self._process.pid, signal.SIGKILL)

    def end(self) -> int:
        """End the process, however far it is; return its exit status, as `subprocess` tells it."""
        if self._process.returncode is None:
            # Its session is its own: what it may have started goes along.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        return self._process.wait()

    def complaints(self) -> str:
        """Return the end of what it wrote to standard error."""
        size = os.fstat(self._complaints).st_size
        return os.pread(self._complaints, COMPLAINT_CHARS, max(0, size - COMPLAINT_CHARS)).decode(errors="replace")

    def close(self) -> None:
        self.end()
        self._channel.close()
        os.close(self._complaints)


class Standby:
    """Keeps so many processes ready. Thread-safe.

    One thread starts them all: the kernel ends a child with the thread that started it.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._ready: deque[MediaProcess] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._keeper = threading.Thread(target=self._keep, name="media standby", daemon=True)
        if count:
            self._keeper.start()

    def take(self) -> MediaProcess:
        """Return a process that waits for its instruction; starts one when none is ready."""
        with self._changed:
            self._changed.notify_all()
            while self._ready:
                process = self._ready.popleft()
                if not process.ended:
                    return process
                log.warning("a waiting media process has ended: %r", process.complaints())
                process.close()
        return MediaProcess()

    def close(self) -> None:
        """End those that wait, and start no more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._count:
            self._keeper.join()
        while self._ready:
            self._ready.popleft().close()

    def _keep(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or len(self._ready) < self._count)
                if self._closed:
                    return
            try:
                process = MediaProcess()
            except OSError as exc:  # out of memory, processes or descriptors: a job that needs one will say so
                log.warning("no media process could be started ahead (%s)", exc)
                with self._changed:
                    self._changed.wait_for(lambda: self._closed, RETRY_S)
                continue
            with self._changed:
                self._ready.append(process)
