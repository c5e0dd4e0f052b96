"""Inputs of a job: what is a file to upload, and what the server fetches by itself."""

from __future__ import annotations

import io
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast
from urllib.parse import urlsplit

from mmaudio_client.errors import InvalidInputError

Source = str | os.PathLike[str] | bytes | IO[bytes]
"""A path, S3 address, web address or upload id; or the bytes of a file; or a file opened for reading bytes."""

VIDEO_SUFFIXES = frozenset(
    {
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".ts", ".mts", ".m2ts"),
        *(".mpg", ".mpeg", ".vob", ".mxf", ".flv", ".ogv", ".wmv", ".asf", ".dv", ".gif", ".apng"),
    }
)
IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".heic", ".heif", ".avif"})
UPLOAD_ID = re.compile(r"upl_\w+")
SPOOL_BYTES = 16 * 1024 * 1024
LONGEST_FILENAME = 255
UNNAMED = "upload"
"""The file name of an upload that has none."""


@dataclass(frozen=True)
class OpenInput:
    """A file to upload: the bytes from `start` to the end of `file`."""

    file: IO[bytes]
    start: int
    size_bytes: int
    filename: str


def is_remote(source: Source) -> bool:
    """Return whether the server takes `source` as it is: an S3 or web address, or an upload id."""
    return isinstance(source, str) and (
        source.startswith(("s3://", "https://", "http://")) or UPLOAD_ID.fullmatch(source) is not None
    )


def is_image(source: Source) -> bool:
    """Return whether a path or an address has the suffix of an image."""
    if not isinstance(source, str | os.PathLike):
        return False
    text = os.fsdecode(os.fspath(source))
    name = urlsplit(text).path if text.startswith(("https://", "http://")) else text
    return name.lower().endswith(tuple(IMAGE_SUFFIXES))


def check_file(path: Path) -> None:
    """Check that `path` is a file with content.

    Raises:
        InvalidInputError: it is missing, a folder, empty or not readable.
    """
    try:
        if path.is_dir():
            raise InvalidInputError(f"'{path}' is a folder; give a file.")
        if not path.is_file():
            raise InvalidInputError(
                f"There is no file '{path}'. Give an existing file, s3://bucket/key, an https:// URL or an upload id."
            )
        with path.open("rb") as file:
            if not file.read(1):
                raise InvalidInputError(f"'{path}' is empty.")
    except (OSError, ValueError) as exc:  # ValueError: a NUL character in the path
        if isinstance(exc, InvalidInputError):
            raise
        raise InvalidInputError(f"Cannot read '{path}': {getattr(exc, 'strerror', None) or exc}.") from exc


@contextmanager
def open_input(source: Source, *, filename: str | None = None) -> Iterator[OpenInput]:
    """Open an input for upload; a file that the caller opened stays open.

    Args:
        source: a path, bytes, or a file opened for reading bytes, which is sent from its current position on.
        filename: the name that the upload gets; default: that of the file.

    Raises:
        InvalidInputError: there is no such file, it is empty, or it is not opened in binary mode.
    """
    if source == "":
        raise InvalidInputError("The path of the input is empty; give a file.")
    if isinstance(source, str | os.PathLike):
        path = Path(source)
        check_file(path)
        with path.open("rb") as file:
            yield _measured(file, filename or path.name, f"'{path}'")
    elif isinstance(source, bytes | bytearray | memoryview):
        yield _measured(io.BytesIO(source), filename or UNNAMED, "The input")
    elif hasattr(source, "read"):
        name = filename or _name_of(source)
        if getattr(source, "closed", False):
            raise InvalidInputError(f"The file '{name}' is closed; open it with 'rb'.")
        if _seekable(source):
            yield _measured(source, name, f"The file '{name}'")
            return
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_BYTES) as spool:
            _copy(source, cast("IO[bytes]", spool))
            yield _measured(cast("IO[bytes]", spool), name, f"The stream '{name}'")
    else:
        raise InvalidInputError(
            f"Got an input of type {type(source).__name__}; give a path, bytes, or a file opened with 'rb'."
        )


def _measured(file: IO[bytes], filename: str, what: str) -> OpenInput:
    if _is_text(file):
        raise InvalidInputError(f"{what} is opened as text; open it with 'rb'.")
    start = file.tell()
    size = file.seek(0, io.SEEK_END) - start
    file.seek(start)
    if size <= 0:
        raise InvalidInputError(f"{what} is empty, or was already read to its end.")
    # Names on the disk may hold bytes that are no text, which JSON cannot carry.
    shown = filename.encode("utf-8", "replace").decode().replace("\x00", "")[-LONGEST_FILENAME:]
    return OpenInput(file, start, size, shown or UNNAMED)


def _copy(source: IO[bytes], target: IO[bytes]) -> None:
    try:
        shutil.copyfileobj(source, target)
    except TypeError as exc:
        raise InvalidInputError("The stream gives text; open it with 'rb'.") from exc
    target.seek(0)


def _name_of(file: IO[bytes]) -> str:
    name = getattr(file, "name", None)
    return Path(name).name if isinstance(name, str) and Path(name).name else UNNAMED


def _is_text(file: object) -> bool:
    return isinstance(file, io.TextIOBase)


def _seekable(file: IO[bytes]) -> bool:
    seekable = getattr(file, "seekable", None)
    return bool(seekable()) if callable(seekable) else False
