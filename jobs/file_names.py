"""Names under which browsers save results: after the source, and safe on every file system."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from urllib.parse import quote

LONGEST_STEM_BYTES = 180
"""File systems take 255 bytes a name, and a letter may have four; the rest is for numbers and the suffix."""
# Control characters; characters that Windows refuses; such that show a name in another order or not at all.
_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"|?*/\\\ud800-\udfff\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]+'
)
# Names of devices on Windows, with any suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE)
_NOT_ASCII = re.compile(r'[^\x20-\x7e]|["%\\]')
_KIND = re.compile(r"^(audio|video)(?=[-.])")


def safe_stem(filename: str) -> str:
    """Return the last part of a file's name without its suffix, made safe; "" when nothing is left."""
    name = filename.replace("\\", "/").rstrip("/").rpartition("/")[2]
    stem = _UNSAFE.sub("-", PurePosixPath(name).stem).strip(" .")
    stem = stem.encode()[:LONGEST_STEM_BYTES].decode(errors="ignore").strip(" .")
    return f"_{stem}" if _DEVICE.fullmatch(stem) else stem


def result_name(stem: str, artifact_name: str) -> str:
    """Return the name for an artifact of a source: `walk-mix-2.flac` for `audio-mix-2.flac` of `walk`."""
    return _KIND.sub(lambda _: stem, artifact_name) if stem else artifact_name


def content_disposition(filename: str, *, inline: bool) -> str:
    """Return the header (RFC 6266): a name in ASCII for old programs, and the whole one."""
    shown = "inline" if inline else "attachment"
    plain = _NOT_ASCII.sub("_", filename)
    whole = f"; filename*=UTF-8''{quote(filename, safe='')}" if plain != filename else ""
    return f'{shown}; filename="{plain}"{whole}'
