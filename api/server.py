"""The WSGI server around the app: granian, one process, many threads (docs/adr/0002-wsgi-server.md)."""

from __future__ import annotations

import functools
import os
import select
import sys
import threading

from flask import Flask

from api.app import create_app
from jobs.listen_address import listen_addresses
from jobs.private_files import keep_files_private
from jobs.settings import Settings
from jobs.settings_loading import load_settings

STOP_WITHIN_S = 10


def app_from_environment() -> Flask:
    """Return the app for another WSGI server, with the settings of the environment."""
    keep_files_private()
    return create_app(load_settings())


def _load_app(settings: Settings) -> Flask:
    """Return the app in the server's own process."""
    _exit_with_parent(os.getppid())
    return create_app(settings)


def _exit_with_parent(parent_pid: int) -> None:
    """Exit when granian's main process is killed; this process would keep the port otherwise."""
    if sys.platform != "linux":
        return
    parent = os.pidfd_open(parent_pid)

    def wait() -> None:
        select.select([parent], [], [])  # readable when the process has exited
        os._exit(1)

    threading.Thread(target=wait, name="parent-exit", daemon=True).start()


def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests in progress and return.

    Raises:
        SettingsError: the host name has no address.
    """
    from granian.constants import Interfaces
    from granian.log import LogLevels
    from granian.server import Server

    _, address = listen_addresses(settings)[0]
    Server(
        "api.server:app_from_environment",  # for the process title; the loader below makes the app
        address=address,
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
    ).serve(
        # granian's own loader would put the current folder first on the module path.
        target_loader=functools.partial(_load_app, settings),
        wrap_loader=False,
    )
