"""`data:` URIs as inputs: a small file within the request itself."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass

MAX_DATA_BYTES = 10 * 1024**2
_MAX_HEAD_CHARS = 200
# Base64 of `MAX_DATA_BYTES`, and what stands before it.
MAX_DATA_URI_CHARS = 4 * ((MAX_DATA_BYTES + 2) // 3) + _MAX_HEAD_CHARS
_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+", re.ASCII)
_FORM = "give data:TYPE/SUBTYPE;base64,DATA, such as data:video/mp4;base64,AAAA"


@dataclass(frozen=True)
class DataUri:
    """The content of a `data:` URI."""

    content_type: str
    content: bytes


def is_data_uri(source: str) -> bool:
    """Return whether an input is meant as a `data:` URI."""
    return source[:5].lower() == "data:"


def check_data_uri(source: str) -> str:
    """Return a `data:` URI whose form and size are allowed; its content is not decoded.

    Raises:
        ValueError: it is not.
    """
    _split(source)
    return source


def parse_data_uri(source: str) -> DataUri:
    """Return the content of a `data:` URI.

    Raises:
        ValueError: its form or size is not allowed, or it is not base64.
    """
    content_type, text = _split(source)
    try:
        content = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise ValueError("the data of the data: URI is not base64") from exc
    return DataUri(content_type, content)


def _split(source: str) -> tuple[str, str]:
    start = source[:_MAX_HEAD_CHARS].partition(",")
    head, _, marker = start[0][5:].rpartition(";")
    if not start[1] or marker.strip().lower() != "base64":
        raise ValueError(_FORM)
    # Parameters such as `codecs` say nothing that the file does not say.
    content_type = head.partition(";")[0].strip().lower() or "application/octet-stream"
    if not _TYPE.fullmatch(content_type):
        raise ValueError(_FORM)
    text = source[len(start[0]) + 1 :]
    if not text:
        raise ValueError("the data: URI has no data")
    size_bytes = len(text) // 4 * 3 - text[-2:].count("=")
    if size_bytes > MAX_DATA_BYTES:
        raise ValueError(
            f"the data: URI has {size_bytes} bytes, at most {MAX_DATA_BYTES} are allowed; upload the file "
            "(POST /v1/uploads)"
        )
    return content_type, text
