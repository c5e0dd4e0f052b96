"""The process that media processes are forked from. It has done the slow imports, reads no file and holds no secret.

A fork is ready in a few milliseconds; starting and importing would take longer than reading most files. Requests come
on one socket. Every child has a second socket: on it the worker receives that the child was forked and how it ended,
and the worker kills the child by closing it. So nothing outlives a worker, however the worker ends, and the worker
needs no pid of a process that is not its own child.
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import select
import signal
import socket
import sys
import traceback
from dataclasses import dataclass
from typing import NoReturn

from workers.media import sandbox_child

REQUEST = b"fork"
FORKED = b"forked"
REQUEST_DESCRIPTORS = 3
REPORT_BYTES = 64


@dataclass
class _Child:
    pid: int
    pidfd: int
    report: socket.socket


def main(control_descriptor: int) -> int:
    """Fork a child for each request until the worker closes the socket, and stay until the last one has ended."""
    _preload()
    gc.freeze()  # else the first collection of every child would copy the shared pages
    control: socket.socket | None = socket.socket(fileno=control_descriptor)
    children: list[_Child] = []
    while control is not None or children:
        poll = select.poll()
        for descriptor in [child.report.fileno() for child in children] + [child.pidfd for child in children]:
            poll.register(descriptor, select.POLLIN)
        if control is not None:
            poll.register(control, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        for child in list(children):
            if child.pidfd in ready or child.report.fileno() in ready:
                _end(child)
                children.remove(child)
        if control is not None and control.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(control, len(REQUEST), REQUEST_DESCRIPTORS)
            if message:
                children += _fork(*descriptors)
            else:
                control.close()
                control = None
    return 0


def _fork(channel: int, report: int, stderr: int) -> list[_Child]:
    """Fork a child; return nothing, and close its report, when the machine has no process or memory left."""
    parent = os.getpid()
    report_socket = socket.socket(fileno=report)
    try:
        pid = os.fork()
        if pid == 0:
            _serve(channel, stderr, parent)
    except OSError:
        report_socket.close()
        return []
    finally:
        os.close(channel)
        os.close(stderr)
    with contextlib.suppress(OSError):  # the worker has ended; the next round of `main` sees the closed socket
        report_socket.send(FORKED)
    return [_Child(pid, os.pidfd_open(pid), report_socket)]


def _serve(channel: int, stderr: int, parent: int) -> NoReturn:
    """Run as a media process, in the child, with no descriptor of the parent or of another child open."""
    status = 1
    try:
        os.setsid()
        os.dup2(stderr, sys.stderr.fileno())
        kept = sys.stderr.fileno() + 1
        os.dup2(channel, kept)
        os.closerange(kept + 1, os.sysconf("SC_OPEN_MAX"))
        status = sandbox_child.main(kept, parent)
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)


def _end(child: _Child) -> None:
    """Kill a child, if it has not ended by itself, with all it started in its session; report its exit status."""
    by_itself = os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)  # before it is reaped, while the pid cannot be reused
    with contextlib.suppress(ProcessLookupError):
        os.kill(child.pid, signal.SIGKILL)  # just forked, it may have no session yet
    _, status = os.waitpid(child.pid, 0)
    with contextlib.suppress(OSError):
        child.report.send(json.dumps([os.waitstatus_to_exitcode(status), by_itself]).encode())
    child.report.close()
    os.close(child.pidfd)


def _preload() -> None:
    """Do the slow imports once, before the first fork."""
    import workers.media.sandbox_actions  # noqa: F401
