"""Blocks internet access while third-party packages are imported and loaded: several of them download files."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any

OFFLINE_VARIABLES = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")

_forbidding = False
_hooked = False


def _refuse(event: str, arguments: tuple[Any, ...]) -> None:
    if not _forbidding:
        return
    # A textual address is a local socket file.
    away = event == "socket.connect" and not isinstance(arguments[1], str | bytes)
    # os.system is how panns_inference calls wget.
    if away or event in ("socket.getaddrinfo", "os.system"):
        raise PermissionError(f"it tried to open a connection ({event}); evaluation never downloads")


@contextlib.contextmanager
def offline(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Block internet access, change to `folder`, hide command-line arguments and redirect stdout to stderr.

    Names such as `roberta-base` that transformers looks up are then found as folders in `folder`. Not thread-safe: the
    working directory and the block apply to the whole process.
    """
    global _forbidding, _hooked  # an audit hook is the process's and cannot be taken back
    if not _hooked:
        sys.addaudithook(_refuse)
        _hooked = True
    environment, arguments = {name: os.environ.get(name) for name in OFFLINE_VARIABLES}, sys.argv
    with contextlib.chdir(folder), contextlib.redirect_stdout(sys.stderr):
        try:
            os.environ |= dict.fromkeys(OFFLINE_VARIABLES, "1")
            # laion_clap reads the command line when it is imported.
            sys.argv = arguments[:1]
            _forbidding = True
            yield
        finally:
            _forbidding, sys.argv = False, arguments
            for name, value in environment.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
