"""The embedded broker's configuration: a port that nobody else gets, a password, paths with any characters."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path

import pytest

from workers.host.valkey import prepare_valkey


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def test_the_port_is_kept_from_other_programs_but_not_from_the_server(tmp_path: Path) -> None:
    with closing(prepare_valkey(tmp_path)) as valkey:
        port = port_of(valkey.url)
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))
        with socket.socket() as server:  # as Valkey binds
            server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            server.bind(("127.0.0.1", port))


def test_two_servers_get_two_ports(tmp_path: Path) -> None:
    with closing(prepare_valkey(tmp_path / "a")) as one, closing(prepare_valkey(tmp_path / "b")) as two:
        assert port_of(one.url) != port_of(two.url)


def test_the_configuration_is_private_and_quotes_its_paths(tmp_path: Path) -> None:
    folder = tmp_path / 'my "data" \\ folder'
    with closing(prepare_valkey(folder)) as valkey:
        config = Path(valkey.spec.command[1])
        assert config.stat().st_mode & 0o077 == 0
        quoted = str(folder / "valkey").replace("\\", "\\\\").replace('"', '\\"')
        assert f'dir "{quoted}"\n' in config.read_text()
        assert f'logfile "{quoted}/valkey.log"\n' in config.read_text()


def test_the_last_log_line_is_what_the_server_said_last(tmp_path: Path) -> None:
    with closing(prepare_valkey(tmp_path)) as valkey:
        assert valkey.last_log_line() == ""
        valkey.log_file.write_text("one\nBad file format\n\n")
        assert valkey.last_log_line() == "Bad file format"
