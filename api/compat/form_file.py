"""Reads the file of a `multipart/form-data` body while it arrives, without keeping it in memory or on a disk.

Not with werkzeug's `MultipartDecoder`: it adds a CR to a file where a piece of the body ends within the last delimiter.
"""

from __future__ import annotations

import io
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, BinaryIO

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.http import parse_options_header

from jobs.errors import RequestInvalidError

CHUNK_BYTES = 64 * 1024
# Bytes that a body has besides its file: the delimiters, the parts' headers, the other fields.
MAX_FORM_BYTES = 64 * 1024
MAX_PARTS = 16
MAX_BOUNDARY_CHARS = 200
_MAX_PADDING = 64


@dataclass(frozen=True)
class _Part:
    name: str
    filename: str | None
    content_type: str


class _Parts:
    """Splits a form into its parts.

    Raises (all methods):
        RequestInvalidError: the form is malformed or cut short.
        RequestEntityTooLarge: headers or padding are too large, or there are too many parts.
    """

    def __init__(self, body: BinaryIO, boundary: bytes) -> None:
        self._body, self._delimiter = body, b"\r\n--" + boundary
        self._buffer = bytearray(b"\r\n")  # the first delimiter may begin the body
        self._count = 0
        self._in_part = True  # what precedes the first delimiter is skipped like one
        self._ended = False

    def next_part(self) -> _Part | None:
        """Skip what is left of the present part, and return the next one; None: the form has ended."""
        skipped = 0
        while (piece := self.next_piece()) is not None:
            skipped += len(piece)
            if skipped > MAX_FORM_BYTES:
                raise RequestEntityTooLarge
        if self._ended:
            return None
        self._count += 1
        if self._count > MAX_PARTS:
            raise RequestEntityTooLarge
        return self._read_headers()

    def next_piece(self) -> bytes | None:
        """Return some bytes of the present part; None: it has ended, and what follows is `next_part`."""
        while self._in_part:
            at = self._buffer.find(self._delimiter)
            if at == 0:
                follows = self._after_delimiter()
                if follows is not None:
                    self._in_part, self._ended = False, follows == b"--"
                    return None
                return self._take(1)  # the bytes of a delimiter, but not one
            if at > 0:
                return self._take(at)
            whole = len(self._buffer) - len(self._delimiter) + 1
            if whole > 0:
                return self._take(whole)
            self._fill()
        return None

    def _after_delimiter(self) -> bytes | None:
        """Remove a delimiter and its padding; return `--` or the line break that follows, None: it is no delimiter."""
        start = len(self._delimiter)
        while True:
            end = start
            while end < len(self._buffer) and self._buffer[end] in b" \t":
                end += 1
            if end - start > _MAX_PADDING:
                return None
            follows = bytes(self._buffer[end : end + 2])
            if follows == b"--" and end == start:
                del self._buffer[:]
                return follows
            if follows == b"\r\n":
                del self._buffer[:end]
                return follows
            if len(follows) == 2:
                return None
            self._fill()

    def _read_headers(self) -> _Part:
        """Read the lines after a delimiter up to the empty one."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_FORM_BYTES:
                raise RequestEntityTooLarge
            self._fill()
        lines = bytes(self._buffer[:end]).decode("utf-8", "replace").split("\r\n")
        del self._buffer[: end + 4]
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        kind, options = parse_options_header(headers.get("content-disposition", ""))
        if kind != "form-data" or "name" not in options:
            raise _malformed()
        self._in_part = True
        return _Part(options["name"], options.get("filename"), headers.get("content-type", ""))

    def _take(self, count: int) -> bytes:
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    def _fill(self) -> None:
        data = self._body.read(CHUNK_BYTES)
        if not data:
            raise _malformed()
        self._buffer += data


class FormFile(io.RawIOBase):
    """The content of the only file of a form, as a stream; what precedes it is read when this is made.

    `fields` has the other fields. Those that follow the file are there once the stream has ended.

    Args:
        names: that the file's part may have.

    Raises:
        RequestInvalidError: the body is no form with such a file.
        RequestEntityTooLarge: what it has besides the file is too large.
    """

    def __init__(self, body: BinaryIO, boundary: str, names: Collection[str]) -> None:
        if not boundary or len(boundary) > MAX_BOUNDARY_CHARS:
            raise RequestInvalidError.of("body", "the content type names no boundary")
        self._parts = _Parts(body, boundary.encode("utf-8", "replace"))
        self._names, self._pending, self._file_ended = names, b"", False
        self._field_bytes = 0
        self.fields: dict[str, str] = {}
        part = self._read_fields()
        if part is None or part.name not in names:
            allowed = " or ".join(sorted(names))
            raise RequestInvalidError.of("content", f"the form has no file; send it as the part {allowed}")
        self.filename = part.filename or ""
        self.content_type = part.content_type

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to the size of the buffer; return 0 at the end of the file.

        Raises:
            RequestInvalidError: the form is malformed or cut short, or has another file.
            RequestEntityTooLarge: what follows the file is too large.
        """
        if not self._pending and not self._file_ended:
            piece = self._parts.next_piece()
            if piece is None:
                self._file_ended = True
                if (other := self._read_fields()) is not None:
                    raise RequestInvalidError.of(other.name[:60], "there is one file too many; send one in each form")
            self._pending = piece or b""
        taken = self._pending[: len(buffer)]
        buffer[: len(taken)] = taken
        self._pending = self._pending[len(taken) :]
        return len(taken)

    def _read_fields(self) -> _Part | None:
        """Read fields up to the next file; None: the form has ended."""
        while (part := self._parts.next_part()) is not None:
            if part.filename is not None:
                return part
            value = bytearray()
            while (piece := self._parts.next_piece()) is not None:
                value += piece
                self._field_bytes += len(piece)
                if self._field_bytes > MAX_FORM_BYTES:
                    raise RequestEntityTooLarge
            self.fields[part.name[:60]] = value.decode("utf-8", "replace")
        return None


def _malformed() -> RequestInvalidError:
    return RequestInvalidError.of("body", "the form is malformed or cut short")
