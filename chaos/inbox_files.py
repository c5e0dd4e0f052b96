"""Files for the inbox whose names programs tend to trip over."""

from __future__ import annotations

import os
from pathlib import Path

NAME_MAX = 255
SUFFIX = b".mp4"


def odd_names(number: int) -> list[bytes]:
    """Return file names that are allowed by the kernel: bytes, the longest possible, control characters, quotes.

    Args:
        number: makes the names differ from those of other calls.
    """
    mark = f"{number:04d}".encode()
    return [
        mark + b"\xff\xfe\x80" + SUFFIX,
        mark.ljust(NAME_MAX - len(SUFFIX), b"a") + SUFFIX,
        mark.ljust(244 - len(SUFFIX), b"b") + SUFFIX,
        mark + "\u00e9".encode() * 120 + SUFFIX,
        mark + b"line\nbreak\x1b[31m" + SUFFIX,
        mark + b"'; DROP TABLE jobs; --" + SUFFIX,
    ]


def put_file(folder: Path, name: bytes, content: bytes) -> None:
    """Put a whole file into a folder at once."""
    folder.mkdir(parents=True, exist_ok=True)
    hidden = folder / ".arriving"
    hidden.write_bytes(content)
    hidden.rename(folder / os.fsdecode(name))


def files_left(folder: Path) -> list[str]:
    """Return the names of the files that are still in the inbox, with bytes that are no text escaped."""
    if not folder.is_dir():
        return []
    return sorted(
        os.fsencode(entry.name).decode("utf-8", "backslashreplace")
        for entry in os.scandir(folder)
        if entry.is_file(follow_symlinks=False) and not entry.name.startswith(".")
    )
