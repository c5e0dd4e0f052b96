"""Reads the file of a `multipart/form-data` body while it arrives, without keeping it in memory or on a disk."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Any, BinaryIO

from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.sansio.multipart import Data, Epilogue, Field, File, MultipartDecoder, NeedData

from jobs.errors import RequestInvalidError

CHUNK_BYTES = 64 * 1024
# Bytes that a body has besides its file: the boundaries, the parts' headers, the other fields.
MAX_FORM_BYTES = 64 * 1024
MAX_PARTS = 16


class FormFile(io.RawIOBase):
    """The content of the first file of a form, as a stream; what precedes it is read when this is made.

    `fields` has the other fields. Those that follow the file are there once the stream has ended.

    Args:
        names: that the file's part may have.

    Raises:
        RequestInvalidError: the body is no form with such a file.
    """

    def __init__(self, body: BinaryIO, boundary: str, names: Collection[str]) -> None:
        if not boundary or len(boundary) > 200:
            raise RequestInvalidError.of("body", "the content type names no boundary")
        self._body, self._names = body, names
        self._decoder = MultipartDecoder(boundary.encode("latin-1", "replace"), max_parts=MAX_PARTS)
        self._ended, self._other_bytes = False, 0
        self._pending = b""
        self._field: str | None = None
        self.fields: dict[str, str] = {}
        part = self._next_file()
        if part is None:
            allowed = " or ".join(sorted(names))
            raise RequestInvalidError.of("content", f"the form has no file; send it as the part {allowed}")
        self.filename = part.filename
        self.content_type = part.headers.get("Content-Type", "").partition(";")[0].strip()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Read up to the size of the buffer; return 0 at the end of the file.

        Raises:
            RequestInvalidError: the form is malformed.
        """
        while not self._pending and not self._ended:
            event = self._event()
            if isinstance(event, Data):
                self._pending = event.data
                if not event.more_data:
                    self._ended = True
                    if not self._pending:
                        break
        taken = self._pending[: len(buffer)]
        buffer[: len(taken)] = taken
        self._pending = self._pending[len(taken) :]
        if self._ended and not taken:
            self._read_rest()
        return len(taken)

    def _next_file(self) -> File | None:
        """Read up to the next file with one of the names; None: the form has ended."""
        while True:
            event = self._event()
            if isinstance(event, File) and event.name in self._names:
                return event
            if isinstance(event, Epilogue):
                return None
            self._note(event)

    def _read_rest(self) -> None:
        event = None
        while not isinstance(event, Epilogue):
            event = self._event()
            self._note(event)

    def _note(self, event: object) -> None:
        """Keep a field, or refuse what is not expected; the bytes that these have are limited."""
        if isinstance(event, File):
            raise RequestInvalidError.of(str(event.name)[:60], "there is one file too many, or none is expected here")
        if isinstance(event, Field):
            self._field = str(event.name)[:60]
            self.fields[self._field] = ""
        if isinstance(event, Data) and self._field is not None:
            self._other_bytes += len(event.data)
            if self._other_bytes > MAX_FORM_BYTES:
                raise RequestEntityTooLarge
            self.fields[self._field] += event.data.decode("utf-8", "replace")

    def _event(self) -> object:
        try:
            while isinstance(event := self._decoder.next_event(), NeedData):
                if len(self._decoder.buffer) > CHUNK_BYTES + MAX_FORM_BYTES:
                    raise RequestEntityTooLarge  # a part without an end of its headers
                self._decoder.receive_data(self._body.read(CHUNK_BYTES) or None)
        except (ValueError, AttributeError) as exc:  # the decoder's answers to a malformed form
            raise RequestInvalidError.of("body", "the form is malformed or cut short") from exc
        return event
