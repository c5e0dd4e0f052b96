"""The process that media processes are forked from. It has imported what takes long, reads no file and holds no secret.

A fork of it is ready in a few milliseconds, where starting and importing take longer than reading most files. It is
told on one socket; every child has another one on which the worker hears that it was forked and how it ended, and by
closing of which the worker has it ended. So nothing outlives a worker, however that one ends, and the worker needs no
pid of a process that is not its own child.
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
    _import_what_is_slow()
    gc.freeze()  # or the first collection of every child would copy what they share
    control: socket.socket | None = socket.socket(fileno=control_descriptor)
    children: list[_Child] = []
    while control is not None or children:
        poll = select.poll()
        for descriptor in [one.report.fileno() for one in children] + [one.pidfd for one in children]:
            poll.register(descriptor, select.POLLIN)
        if control is not None:
            poll.register(control, select.POLLIN)
        ready = {descriptor for descriptor, _ in poll.poll()}
        for one in list(children):
            if one.pidfd in ready or one.report.fileno() in ready:
                _end(one)
                children.remove(one)
        if control is not None and control.fileno() in ready:
            message, descriptors, _, _ = socket.recv_fds(control, len(REQUEST), REQUEST_DESCRIPTORS)
            if message:
                children += _fork(*descriptors)
            else:
                control.close()
                control = None
    return 0


def _fork(channel: int, report: int, stderr: int) -> list[_Child]:
    """Return the child; none where the machine gives no more processes or memory, which the worker hears of."""
    parent = os.getpid()
    told = socket.socket(fileno=report)
    try:
        pid = os.fork()
        if pid == 0:
            _serve(channel, stderr, parent)
    except OSError:
        told.close()
        return []
    finally:
        os.close(channel)
        os.close(stderr)
    with contextlib.suppress(OSError):  # the worker has ended: its end of the socket says so in the next round
        told.send(FORKED)
    return [_Child(pid, os.pidfd_open(pid), told)]


def _serve(channel: int, stderr: int, parent: int) -> NoReturn:
    """Be a media process, in the child: nothing of the parent's or of another child's stays open."""
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


def _end(one: _Child) -> None:
    """Tell how a child ended, by itself or now; what it started in its session goes along."""
    by_itself = os.waitid(os.P_PID, one.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(one.pid, signal.SIGKILL)  # before it is reaped: its pid is still its own
    with contextlib.suppress(ProcessLookupError):
        os.kill(one.pid, signal.SIGKILL)  # forked a moment ago, it may have no session yet
    _, status = os.waitpid(one.pid, 0)
    with contextlib.suppress(OSError):
        one.report.send(json.dumps([os.waitstatus_to_exitcode(status), by_itself]).encode())
    one.report.close()
    os.close(one.pidfd)


def _import_what_is_slow() -> None:
    import workers.media.shared_memory  # noqa: F401
