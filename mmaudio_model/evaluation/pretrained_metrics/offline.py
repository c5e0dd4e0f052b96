"""No network while other people's packages are imported and loaded: several of them fetch files unasked."""

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
    # An address that is text is a socket file of this machine.
    away = event == "socket.connect" and not isinstance(arguments[1], str | bytes)
    # os.system is how panns_inference calls wget.
    if away or event in ("socket.getaddrinfo", "os.system"):
        raise PermissionError(f"it wants to fetch something ({event}), and evaluation never downloads")


@contextlib.contextmanager
def offline(folder: str | os.PathLike[str]) -> Iterator[None]:
    """Load a package within: without the network, in `folder`, with no arguments, and its prints on stderr.

    Names such as `roberta-base` that transformers looks up are then found as folders in `folder` first. Not for
    several threads: the working directory and the refusal are the process's.
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
