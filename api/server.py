"""The WSGI server around the app: granian, one process, many threads (docs/adr/0002-wsgi-server.md)."""

from __future__ import annotations

import os
import select
import socket
import sys
import threading

from flask import Flask

from api.app import create_app
from jobs.settings import Settings, load_settings

STOP_WITHIN_S = 10


def app_from_environment() -> Flask:
    """Make the app in the server's process; its settings come by the environment, as they do for every process."""
    _exit_with_parent(os.getppid())
    return create_app(load_settings())


def _exit_with_parent(parent_pid: int) -> None:
    """Exit when granian's main process is killed; this process would keep the port otherwise."""
    if sys.platform != "linux":
        return
    parent = os.pidfd_open(parent_pid)

    def wait() -> None:
        select.select([parent], [], [])  # readable when the process has ended
        os._exit(1)

    threading.Thread(target=wait, name="parent-exit", daemon=True).start()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is being answered and return.

    Raises:
        BrokerUnknownError: nothing says where the broker is.
        OSError: the name to listen on is no name of this machine.
    """
    from granian.constants import Interfaces
    from granian.log import LogLevels
    from granian.server import Server

    settings.resolved_broker_url()  # said here, at once, and not by a child that dies again and again
    os.environ["MMAUDIO_API_BIND"] = settings.api_bind
    os.environ["MMAUDIO_DATA_DIR"] = str(settings.data_dir)
    Server(
        "api.server:app_from_environment",
        factory=True,
        address=_address(settings.api_host),
        port=settings.api_port,
        interface=Interfaces.WSGI,
        workers=1,
        # Each waiting ?wait= holds one thread; SQL and the object store are waited for in them as well.
        blocking_threads=settings.api_threads,
        backpressure=settings.api_threads * 4,
        workers_kill_timeout=STOP_WITHIN_S,
        respawn_failed_workers=True,
        # Its warning is about more threads than cores; ours wait for SQL and for jobs, so that is meant.
        log_level=LogLevels.error,
        websockets=False,
    ).serve()


def _address(host: str) -> str:
    """Return the address that a host name stands for, IPv4 first; granian takes addresses alone."""
    found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    return str(min(found, key=lambda entry: entry[0] != socket.AF_INET)[4][0])
