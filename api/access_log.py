"""One log line per request, if the setting `access_log` is on."""

from __future__ import annotations

import logging
import time

from flask import Flask, Response, g, request

from api.bridge.waiting import ASKED, JobWait

log = logging.getLogger(__name__)


def register_access_log(app: Flask) -> None:
    """Log method, path, status and duration of every request. Never the query string: it may hold signatures."""
    app.before_request(_start)
    app.after_request(_log_request)


def _start() -> None:
    g.started = time.perf_counter()


def _log_request(response: Response) -> Response:
    if isinstance(request.environ.get(ASKED), JobWait):
        return response  # it waits; its answer is logged
    duration_ms = (time.perf_counter() - g.started) * 1000
    log.info("%s %s %d %.1f ms", request.method, ascii(request.path)[1:-1], response.status_code, duration_ms)
    return response
