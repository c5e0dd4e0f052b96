"""A file that must not be opened, and a port that must not be called: the kernel says whether it happened."""

from __future__ import annotations

import ctypes
import os
import select
import socket
from pathlib import Path
from types import TracebackType

_IN_OPEN, _IN_NONBLOCK = 0x20, os.O_NONBLOCK


class WatchedFile:
    """Notes every opening of a file, by whatever process (inotify)."""

    def __init__(self, path: Path) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = libc.inotify_init1(_IN_NONBLOCK)
        assert libc.inotify_add_watch(self._descriptor, os.fsencode(path), _IN_OPEN) >= 0, os.strerror(
            ctypes.get_errno()
        )

    def __enter__(self) -> WatchedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    @property
    def was_opened(self) -> bool:
        """Say whether it was opened since the watch began, or since this was asked."""
        if not select.select([self._descriptor], [], [], 0)[0]:
            return False
        return bool(os.read(self._descriptor, 65536))


def was_called(listener: socket.socket) -> bool:
    """Say whether somebody has connected to a listening socket."""
    return bool(select.select([listener], [], [], 0)[0])
