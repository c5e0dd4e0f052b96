"""The worker's side of media processes: each is forked for one file, from a process that has done the slow imports.

A process ends with its file (docs/adr/0010): one that a hostile file has taken over gets no second file. What an answer
means does not belong here: that is `workers.media.sandbox`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from workers.media.forkserver import FORKED, REPORT_BYTES, REQUEST
from workers.media.sandbox_child import BEGUN, MESSAGE_BYTES

log = logging.getLogger(__name__)

ROOT = Path(__file__).resolve().parents[2]
# Nothing of the worker's own environment, which holds credentials.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# -I leaves the working folder and PYTHONPATH out of the search path; this project is found through ROOT.
BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from workers.media.forkserver import main; "
    "sys.exit(main(int(sys.argv[2])))"
)
ANSWER_ARRAYS = 2
STDERR_CHARS = 2000
# A process that has closed its socket is about to exit; its exit status says what went wrong.
EXIT_WAIT_S = 1.0
# From a request to the fork, including the imports before the first one, and from a kill to the exit. Generous limits.
FORK_TIMEOUT_S, EXIT_TIMEOUT_S = 60.0, 10.0
# Children of one fork server share its address layout. A new server from time to time makes a leaked layout useless.
FORKS_PER_SERVER = 200


class ChildExitedError(Exception):
    """Raised when a process exited before it accepted its instruction; another process may accept it."""


class StderrBuffer:
    """The standard error of a process, in memory; `read` returns the end of it."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("stderr")

    def read(self) -> str:
        """Return the last `STDERR_CHARS` characters."""
        size = os.fstat(self.descriptor).st_size
        return os.pread(self.descriptor, STDERR_CHARS, max(0, size - STDERR_CHARS)).decode(errors="replace")

    def close(self) -> None:
        """Free the memory."""
        os.close(self.descriptor)


class MediaProcess:
    """One process for one file. Only `kill` may be called from another thread.

    Attributes:
        lost: set by `end` when the fork server had exited and this process with it; not the file's fault.

    Raises:
        ChildExitedError: the fork server did not fork.
    """

    def __init__(self, server: socket.socket) -> None:
        self.lost = False
        with contextlib.ExitStack() as failed:
            self._stderr = StderrBuffer()
            failed.callback(self._stderr.close)
            self._channel, channel = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failed.callback(self._channel.close)
            self._report, report = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            failed.callback(self._report.close)
            with channel, report:
                descriptors = [channel.fileno(), report.fileno(), self._stderr.descriptor]
                try:
                    socket.send_fds(server, [REQUEST], descriptors)
                except OSError as exc:
                    raise ChildExitedError("the fork server has exited") from exc
            self._report.settimeout(FORK_TIMEOUT_S)
            try:
                forked = self._report.recv(REPORT_BYTES)
            except OSError as exc:
                raise ChildExitedError(f"the fork server does not answer: {exc}") from exc
            if forked != FORKED:
                raise ChildExitedError("the fork server did not fork")
            failed.pop_all()

    def instruct(self, instruction: dict[str, Any], descriptors: list[int], *, timeout_s: float) -> None:
        """Send the instruction and the open files it refers to; return when the process begins to work.

        Raises:
            ChildExitedError: the process exited or was killed before it began.
            TimeoutError: it took longer.
        """
        self._channel.settimeout(timeout_s)
        try:
            socket.send_fds(self._channel, [json.dumps(instruction).encode()], descriptors)
            begun = self._channel.recv(len(BEGUN))
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise ChildExitedError(self._stderr_at_exit()) from exc
        if begun != BEGUN:
            raise ChildExitedError(self._stderr_at_exit())

    def answer(self, timeout_s: float) -> tuple[bytes, list[int]]:
        """Wait for the answer and the descriptors of its arrays, which the caller closes.

        Returns:
            An empty answer when the process exited without one.

        Raises:
            TimeoutError: it took longer.
        """
        self._channel.settimeout(timeout_s)
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, ANSWER_ARRAYS)
        except ConnectionResetError:
            message, descriptors = b"", []
        if not message:
            self._wait_for_exit()
        return message, descriptors

    def kill(self) -> None:
        """Kill the process; callable from any thread, while another one waits for the answer."""
        with contextlib.suppress(OSError):  # the fork server has exited, and the process with it
            self._report.shutdown(socket.SHUT_WR)

    def end(self) -> int | None:
        """Kill the process if it still runs, and wait for its exit.

        Returns:
            Its exit status as in `subprocess`; None when it did not exit by itself.
        """
        self.kill()
        self._report.settimeout(EXIT_TIMEOUT_S)
        try:
            status, by_itself = json.loads(self._report.recv(REPORT_BYTES))
        except (OSError, ValueError):
            self.lost = True
            return None
        return int(status) if by_itself else None

    def stderr(self) -> str:
        """Return the end of its standard error."""
        return self._stderr.read()

    def close(self) -> None:
        """Close sockets and memory; call after `end`."""
        self._channel.close()
        self._report.close()
        self._stderr.close()

    def _stderr_at_exit(self) -> str:
        self._wait_for_exit()
        return self.stderr()

    def _wait_for_exit(self) -> None:
        select.select([self._report], [], [], EXIT_WAIT_S)


class _Server:
    """One fork server. It exits by itself when its socket is closed and its last child has exited."""

    def __init__(self) -> None:
        self.stderr = StderrBuffer()
        self.forks = 0
        self.socket, server_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with server_end:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", BOOT, str(ROOT), str(server_end.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.stderr.descriptor,
                cwd="/",
                env=ENVIRONMENT,
                pass_fds=(server_end.fileno(),),
                start_new_session=True,
            )

    def retire(self) -> None:
        """Ask the server to exit after its last child."""
        self.socket.close()
        self.stderr.close()


class MediaProcesses:
    """Forks a process for each file, from one fork server at a time. Thread-safe.

    A new server is started when the current one has exited or has forked `FORKS_PER_SERVER` children.

    Args:
        prestart: start the fork server now, not when the first file arrives.
    """

    def __init__(self, *, prestart: bool = False) -> None:
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._retired: list[_Server] = []
        if prestart:
            with self._lock:
                self._running_server()

    def fork(self) -> MediaProcess:
        """Return a process that waits for its instruction.

        Raises:
            ChildExitedError: the fork server exited; the next call starts another one.
            OSError: the machine has no memory, process or descriptor left.
        """
        with self._lock:
            server = self._running_server()
            server.forks += 1
            try:
                return MediaProcess(server.socket)
            except ChildExitedError as exc:
                stderr = server.stderr.read()
                self._retire()
                raise ChildExitedError(f"{exc} {stderr}".strip()) from exc

    def close(self) -> None:
        """Stop the fork servers and wait for them; their children must have exited or exit by themselves."""
        with self._lock:
            self._retire()
            for server in self._retired:
                try:
                    server.process.wait(EXIT_TIMEOUT_S)
                except subprocess.TimeoutExpired:
                    server.process.kill()
                    server.process.wait()
            self._retired = []

    def _running_server(self) -> _Server:
        if self._server is not None and (
            self._server.forks >= FORKS_PER_SERVER or self._server.process.poll() is not None
        ):
            self._retire()
        if self._server is None:
            self._retired = [server for server in self._retired if server.process.poll() is None]
            self._server = _Server()
        return self._server

    def _retire(self) -> None:
        if self._server is not None:
            self._server.retire()
            self._retired.append(self._server)
            self._server = None
