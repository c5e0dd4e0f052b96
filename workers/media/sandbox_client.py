"""Media processes as the worker holds them: forked when a file comes, from a process that has imported what takes long.

Each serves one file and ends (docs/adr/0010): a process that a stranger's file has taken over has no next file.
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
# Nothing of the worker's own environment: it holds credentials.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
# -I leaves the working folder and PYTHONPATH out of the search path; our own packages come from where we came from.
BOOT = (
    "import sys; sys.path.insert(0, sys.argv[1]); from workers.media.forkserver import main; "
    "sys.exit(main(int(sys.argv[2])))"
)
ANSWER_ARRAYS = 2
STDERR_CHARS = 2000
# A process that has closed its socket is about to end by itself; how it does says what went wrong.
EXIT_WAIT_S = 1.0
# From a request to a fork, with the imports before the first one; and from a kill to its end. Far from what is usual.
FORKED_WITHIN_S, ENDED_WITHIN_S = 60.0, 10.0
# Children of one fork server share where their code lies in memory; what one could tell of it is soon worth nothing.
FORKS_A_SERVER = 200


class ChildExitedError(Exception):
    """Raised when a process ended before it took its instruction; another one may."""


class StderrBuffer:
    """What a process writes to its standard error: the end of it, kept in memory."""

    def __init__(self) -> None:
        self.descriptor = os.memfd_create("stderr")

    def read(self) -> str:
        size = os.fstat(self.descriptor).st_size
        return os.pread(self.descriptor, STDERR_CHARS, max(0, size - STDERR_CHARS)).decode(errors="replace")

    def close(self) -> None:
        os.close(self.descriptor)


class MediaProcess:
    """One process for one file. Everything but `kill` belongs to one thread.

    Attributes:
        lost: after `end`, the fork server had ended and this process with it, which is no fault of the file's.

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
                given = [channel.fileno(), report.fileno(), self._stderr.descriptor]
                try:
                    socket.send_fds(server, [REQUEST], given)
                except OSError as exc:
                    raise ChildExitedError("the fork server has ended") from exc
            self._report.settimeout(FORKED_WITHIN_S)
            try:
                forked = self._report.recv(REPORT_BYTES)
            except OSError as exc:
                raise ChildExitedError(f"the fork server does not answer: {exc}") from exc
            if forked != FORKED:
                raise ChildExitedError("the fork server did not fork")
            failed.pop_all()

    def instruct(self, instruction: dict[str, Any], descriptors: list[int], *, within_s: float) -> None:
        """Hand over the instruction and the open files it is about; return when the process begins with them.

        Raises:
            ChildExitedError: the process ended before it began, by whatever hand.
            TimeoutError: it took longer.
        """
        self._channel.settimeout(within_s)
        try:
            socket.send_fds(self._channel, [json.dumps(instruction).encode()], descriptors)
            begun = self._channel.recv(len(BEGUN))
        except (BrokenPipeError, ConnectionResetError) as exc:
            raise ChildExitedError(self._last_words()) from exc
        if begun != BEGUN:
            raise ChildExitedError(self._last_words())

    def answer(self, within_s: float) -> tuple[bytes, list[int]]:
        """Wait for the answer and the descriptors of its arrays, which the caller closes; empty: it ended without one.

        Raises:
            TimeoutError: it took longer.
        """
        self._channel.settimeout(within_s)
        try:
            message, descriptors, _, _ = socket.recv_fds(self._channel, MESSAGE_BYTES, ANSWER_ARRAYS)
        except ConnectionResetError:
            message, descriptors = b"", []
        if not message:
            self._await_end()
        return message, descriptors

    def kill(self) -> None:
        """End it from any thread, while another one waits for its answer."""
        with contextlib.suppress(OSError):  # the fork server has ended, and the process with it
            self._report.shutdown(socket.SHUT_WR)

    def end(self) -> int | None:
        """End the process, however far it is.

        Returns:
            Its exit status, as `subprocess` tells it; None where it did not end by itself.
        """
        self.kill()
        self._report.settimeout(ENDED_WITHIN_S)
        try:
            status, by_itself = json.loads(self._report.recv(REPORT_BYTES))
        except (OSError, ValueError):
            self.lost = True
            return None
        return int(status) if by_itself else None

    def stderr(self) -> str:
        """Return the end of what it wrote to standard error."""
        return self._stderr.read()

    def close(self) -> None:
        """Forget it, when it has ended."""
        self._channel.close()
        self._report.close()
        self._stderr.close()

    def _last_words(self) -> str:
        self._await_end()
        return self.stderr()

    def _await_end(self) -> None:
        select.select([self._report], [], [], EXIT_WAIT_S)


class _Server:
    """One fork server. It ends by itself when its socket is closed and its last child has ended."""

    def __init__(self) -> None:
        self.stderr = StderrBuffer()
        self.forks = 0
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-I", "-c", BOOT, str(ROOT), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=self.stderr.descriptor,
                cwd="/",
                env=ENVIRONMENT,
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def retire(self) -> None:
        self.socket.close()
        self.stderr.close()


class MediaProcesses:
    """Forks a process for each file, from one fork server at a time. Thread-safe.

    Another one is started when it has ended, or has served long.

    Args:
        ahead: start the fork server now and not when the first file comes.
    """

    def __init__(self, *, ahead: bool = False) -> None:
        self._lock = threading.Lock()
        self._server: _Server | None = None
        self._retired: list[_Server] = []
        if ahead:
            with self._lock:
                self._running_server()

    def fork(self) -> MediaProcess:
        """Return a process that waits for its instruction.

        Raises:
            ChildExitedError: the fork server ended; the next call starts another one.
            OSError: this machine gives no more memory, processes or descriptors.
        """
        with self._lock:
            server = self._running_server()
            server.forks += 1
            try:
                return MediaProcess(server.socket)
            except ChildExitedError as exc:
                told = server.stderr.read()
                self._retire()
                raise ChildExitedError(f"{exc} {told}".strip()) from exc

    def close(self) -> None:
        """Wait for the fork servers; what they have forked must have ended or end by itself."""
        with self._lock:
            self._retire()
            for server in self._retired:
                try:
                    server.process.wait(ENDED_WITHIN_S)
                except subprocess.TimeoutExpired:
                    server.process.kill()
                    server.process.wait()
            self._retired = []

    def _running_server(self) -> _Server:
        if self._server is not None and (
            self._server.forks >= FORKS_A_SERVER or self._server.process.poll() is not None
        ):
            self._retire()
        if self._server is None:
            self._retired = [one for one in self._retired if one.process.poll() is None]
            self._server = _Server()
        return self._server

    def _retire(self) -> None:
        if self._server is not None:
            self._server.retire()
            self._retired.append(self._server)
            self._server = None
