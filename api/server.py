"""The server around the app: granian, one process, many threads (docs/adr/0002-wsgi-server.md)."""

from __future__ import annotations

import contextlib
import functools
import logging
import multiprocessing
import os
import resource
import select
import sys
import threading
from collections.abc import Callable
from multiprocessing.connection import Connection

from flask import Flask

from api.app import create_app
from api.body_limits import body_limit
from api.bridge.asgi import Bridge
from api.bridge.held import HeldRequests, HoldingTimes
from api.bridge.limits import BridgeLimits
from api.compat.fal.storage import is_fal_content
from api.compat.replicate.files import is_file_form
from api.context import EXTENSION
from api.events.reader import EventReader
from api.routes.uploads import is_upload_content
from jobs.listen_address import listen_addresses
from jobs.private_files import keep_files_private
from jobs.settings import Settings
from jobs.settings_loading import load_settings

log = logging.getLogger(__name__)

STOP_WITHIN_S = 10
BACKLOG = 2048
# A request thread takes Python's lock again after each answer of the database, and each time it waits this long for a
# thread that computes. The default of 5 ms makes a submit, with its ten statements, wait 50 ms for a busy event loop.
SWITCH_INTERVAL_S = 0.0005
# Files and connections that are no callers: of the database, the broker, the store, and of downloads.
OTHER_FILES = 512


def app_from_environment() -> Flask:
    """Return the app for another WSGI server, with the settings of the environment."""
    keep_files_private()
    return create_app(load_settings())


def is_streamed_upload(method: str, path: str) -> bool:
    """Return whether the app reads the body of a request while it arrives."""
    return is_upload_content(method, path) or is_file_form(method, path) or is_fal_content(method, path)


def _load_app(settings: Settings, stopping: Connection) -> Bridge:
    """Return the app in the server's own process, behind the bridge to its threads.

    Args:
        stopping: readable when the server stops; it waits for the requests in progress then.
    """
    _exit_with_parent(os.getppid())
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    app, limits = create_app(settings), BridgeLimits.from_settings(settings)
    reader = EventReader(app.extensions[EXTENSION].database)
    held = HeldRequests(reader, limit=limits.held, times=HoldingTimes(stall_s=limits.stall_s))
    bridge = Bridge(app, limits, is_streamed=is_streamed_upload, held=held, body_limit=body_limit)

    def end_held_requests() -> None:
        stopping.poll(None)
        bridge.stop_holding()

    threading.Thread(target=end_held_requests, name="stop", daemon=True).start()
    return bridge


def _exit_with_parent(parent_pid: int) -> None:
    """Exit when granian's main process is killed; this process would keep the port otherwise."""
    if sys.platform != "linux":
        return
    parent = os.pidfd_open(parent_pid)

    def wait() -> None:
        select.select([parent], [], [])  # readable when the process has exited
        os._exit(1)

    threading.Thread(target=wait, name="parent-exit", daemon=True).start()


def serve(settings: Settings, load: Callable[[Settings, Connection], Bridge] = _load_app) -> None:
    """Serve until SIGTERM or SIGINT; then finish the requests in progress and return.

    Args:
        load: makes what is served, in the server's own process; benchmarks serve another app in the same way.

    Raises:
        SettingsError: the host name has no address.
    """
    from granian.constants import HTTPModes, Interfaces
    from granian.http import HTTP1Settings
    from granian.log import LogLevels
    from granian.server import Server

    stopping, say_stopping = multiprocessing.Pipe(duplex=False)

    class StoppingServer(Server):  # type: ignore[valid-type,misc]
        def shutdown(self, exit_code: int = 0) -> None:
            """Tell the server's process to end what waits and streams, before it is waited for."""
            say_stopping.send(None)
            super().shutdown(exit_code)

    _, address = listen_addresses(settings)[0]
    StoppingServer(
        "api.server:app_from_environment",  # for the process title; the loader below makes the app
        address=address,
        port=settings.api_port,
        interface=Interfaces.ASGINL,
        # Where HTTP/2 is offered as well, granian waits without a limit for the first bytes of a connection.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(header_read_timeout=round(settings.api_idle_s * 1000)),
        workers=1,
        backlog=BACKLOG,
        backpressure=allowed_connections(settings.api_connections),
        workers_kill_timeout=STOP_WITHIN_S,
        respawn_failed_workers=True,
        log_level=LogLevels.error,
        websockets=False,
    ).serve(
        # granian's own loader would put the current folder first on the module path.
        target_loader=functools.partial(load, settings, stopping),
        wrap_loader=False,
    )


def allowed_connections(wanted: int) -> int:
    """Raise this process's limit of open files for `wanted` connections; return how many it allows (at least 64)."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted + OTHER_FILES
    unlimited = resource.RLIM_INFINITY
    if soft != unlimited and soft < needed:
        soft = needed if hard == unlimited else min(needed, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if soft == unlimited or soft >= needed:
        return wanted
    allowed = max(64, soft - OTHER_FILES)
    log.warning(
        "the limit of open files (%d) allows %d connections; MMAUDIO_API_CONNECTIONS is %d", soft, allowed, wanted
    )
    return allowed
