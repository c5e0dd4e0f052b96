"""Refuses request bodies that are cut short.

A WSGI server shows a body that breaks off like one that ends: `wsgi.input` returns no more bytes, without an error.
With a Content-Length the bytes are counted. A body in chunks ends at its last chunk, which the server keeps to itself,
so such a body is refused unless the server says that it passes only whole ones on.
"""

from __future__ import annotations

import io
from typing import Any, BinaryIO

from flask import Flask, request

from api.bridge.environ import COMPLETE_BODY
from jobs.errors import DomainError


class BodyIncompleteError(DomainError):
    """Raised when a body ends before its announced length."""

    code = "incomplete_body"


class LengthRequiredError(DomainError):
    """Raised for a body in chunks: whether it is whole cannot be told."""

    code = "length_required"


def register_body_checks(app: Flask) -> None:
    """Check the body of every request while it is read."""
    app.before_request(_count_body)


def _count_body() -> None:
    environ = request.environ
    if environ.get(COMPLETE_BODY):
        return
    if "HTTP_TRANSFER_ENCODING" in environ:
        raise LengthRequiredError("Got a body without Content-Length; send its length, not chunks.")
    length = request.content_length
    if length:
        environ["wsgi.input"] = CountedBody(environ["wsgi.input"], length)


class CountedBody(io.RawIOBase):
    """A request's body that raises where it ends early.

    Args:
        length: bytes that were announced.
    """

    def __init__(self, stream: BinaryIO, length: int) -> None:
        self._stream, self._length, self._count = stream, length, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to the size of the buffer; return 0 at the end.

        Raises:
            BodyIncompleteError: the body ends before its announced length, or the connection broke.
        """
        wanted = min(len(buffer), self._length - self._count)
        if wanted == 0:
            return 0
        try:
            data = self._stream.read(wanted)
        except OSError as exc:  # not a fault of what is written meanwhile
            raise self._incomplete() from exc
        if not data:
            raise self._incomplete()
        self._count += len(data)
        buffer[: len(data)] = data
        return len(data)

    def _incomplete(self) -> BodyIncompleteError:
        return BodyIncompleteError(
            f"The body ended after {self._count} bytes; Content-Length announced {self._length}. Send it again."
        )
