"""The log of every process: one format, in which no name, key or header can begin a line or control a terminal.

Passwords in URLs are masked, also in tracebacks of libraries that were given the URL.
"""

from __future__ import annotations

import logging
from types import TracebackType

from jobs.settings_values import mask_url

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
# File names of bytes that are not UTF-8 hold these bytes as half surrogates (PEP 383).
_FIRST_BYTE, _LAST_BYTE, _BYTE_OFFSET = "\udc80", "\udcff", 0xDC00


def printable(text: str) -> str:
    r"""Return `text` with every character that does not print as itself escaped: `\n`, `\x1b`, `\u202e`."""
    if text.isprintable():
        return text
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    if _FIRST_BYTE <= character <= _LAST_BYTE:
        return f"\\x{ord(character) - _BYTE_OFFSET:02x}"
    return character.encode("unicode_escape").decode("ascii")


class PrintableFormatter(logging.Formatter):
    """A formatter whose lines hold printable characters only; the lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - names of `logging`
        return printable(mask_url(super().formatMessage(record)))

    def formatException(  # noqa: N802
        self, ei: tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
    ) -> str:
        return _indented(super().formatException(ei))

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        return _indented(super().formatStack(stack_info))


def start_logging(level: str) -> None:
    """Configure the log of a process, on standard error."""
    handler = logging.StreamHandler()
    handler.setFormatter(PrintableFormatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])


def _indented(text: str) -> str:
    return "\n".join(f"  {printable(line)}" for line in mask_url(text).split("\n"))
