"""Two readers of one open file, each with its own position."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, cast

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer


def view_of(file: BinaryIO) -> BinaryIO:
    """Return a reader of a file with a position of its own, at the beginning."""
    return cast("BinaryIO", FileView(file))


class FileView(io.RawIOBase):
    """A reader of a file that is read by others too, but not by other threads; closing it leaves the file open."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._place)
        content = self._file.read(len(view))
        view[: len(content)] = content
        self._place += len(content)
        return len(content)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        if whence == io.SEEK_CUR:
            offset += self._place
        elif whence == io.SEEK_END:
            offset = self._file.seek(offset, io.SEEK_END)
        if offset < 0:
            raise ValueError("a position before the start of the file")
        self._place = offset
        return offset

    def tell(self) -> int:
        return self._place
