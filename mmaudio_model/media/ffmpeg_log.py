"""Records what FFmpeg says about a file while it is opened: its errors have no other way to tell a reason."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import av.logging

LogEntry = tuple[int, str, str]
"""Level, name of the part, message."""


@contextlib.contextmanager
def recorded_errors() -> Iterator[list[LogEntry]]:
    """Yield FFmpeg's error messages of this thread, in a list that grows for as long as this lasts.

    FFmpeg's log is one for the process, and it takes Python's lock: no decoder with several threads may run meanwhile.
    Other threads' messages are dropped, as they are without this.
    """
    level, skips = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.ERROR)
    av.logging.set_skip_repeated(False)  # else a message is left out if the file before had the same
    try:
        with av.logging.Capture(local=False), av.logging.Capture() as entries:
            yield entries
    finally:
        av.logging.set_skip_repeated(skips)
        av.logging.set_level(level)
