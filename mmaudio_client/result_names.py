"""File names of results: after the input, safe as a path, and never those of files that exist."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath
from urllib.parse import unquote, urlsplit

from mmaudio_client.models import Artifact

LONGEST_PROMPT = 80
LONGEST_STEM_BYTES = 180
"""File systems take 255 bytes a name, and a letter may have four; the rest is for numbers and the suffix."""
# Control characters; characters that Windows refuses; such that show a name in another order or not at all.
_UNSAFE = re.compile(
    r'[\x00-\x1f\x7f-\x9f<>:"|?*\ud800-\udfff\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb]+'
)
# Names of devices on Windows, with any suffix.
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9\u00b9\u00b2\u00b3]|lpt[0-9\u00b9\u00b2\u00b3])(\..*)?", re.IGNORECASE)
# What a sound file of a job with a mix has: the new sound alone, or with the original one.
_SOUND = re.compile(r"audio-(effect|mix)[-.]")
_SUFFIX = re.compile(r"\.[A-Za-z0-9]{1,8}")


def stem_of_filename(filename: str) -> str:
    """Return the last part of a file's name without its suffix, made safe; "" when nothing is left."""
    name = filename.replace("\\", "/").rstrip("/").rpartition("/")[2]
    return _safe(PurePosixPath(name).stem)


def stem_of_address(address: str) -> str:
    """Return a stem for the file at an S3 or web address; "" when the address names none."""
    if address.startswith("s3://"):
        return stem_of_filename(address.removeprefix("s3://").partition("/")[2])
    return stem_of_filename(unquote(urlsplit(address).path))


def stem_of_prompt(prompt: str) -> str:
    """Return a stem of letters, digits and dashes; "" for a prompt without letters or digits."""
    return _safe(re.sub(r"[^\w]+", "-", prompt).strip("-")[:LONGEST_PROMPT].strip("-"))


def numbered_names(stem: str, artifacts: Sequence[Artifact]) -> Iterator[tuple[str, ...]]:
    """Yield sets of names for a job's files, endlessly; the caller takes the first set that is free.

    One take: `walk.flac` and `walk-sound.mp4`, then `walk-2.flac` and `walk-2-sound.mp4`, ...
    Several takes: `walk-1.flac`, `walk-2.flac`, ..., then the same from a higher number on.
    With the original sound: `walk-effect.flac` and `walk-mix.flac`.
    """
    takes = sorted({artifact.take for artifact in artifacts})
    for first in itertools.count(1):
        numbers = {take: f"-{first + place}" for place, take in enumerate(takes)}
        if len(takes) == 1 and first == 1:
            numbers = {takes[0]: ""}
        names: list[str] = []
        for artifact in artifacts:
            names.append(_unused(f"{stem}{numbers[artifact.take]}{_mark(artifact)}", _suffix(artifact), names))
        yield tuple(names)


def _mark(artifact: Artifact) -> str:
    """Return what distinguishes a file's name from that of its take's sound, and a video's from the input's."""
    if artifact.kind == "audio":
        match = _SOUND.match(artifact.name)
        return f"-{match[1]}" if match else ""
    return "-sound" if artifact.kind == "video" else f"-{stem_of_filename(artifact.name) or 'file'}"


def _suffix(artifact: Artifact) -> str:
    suffix = PurePosixPath(artifact.name).suffix
    return suffix if _SUFFIX.fullmatch(suffix) else ""


def _unused(base: str, suffix: str, names: Sequence[str]) -> str:
    candidates = itertools.chain([f"{base}{suffix}"], (f"{base}-{n}{suffix}" for n in itertools.count(2)))
    return next(name for name in candidates if name not in names)


def _safe(stem: str) -> str:
    stem = _UNSAFE.sub("-", stem).replace("/", "-").replace("\\", "-").strip(" .")
    stem = stem.encode()[:LONGEST_STEM_BYTES].decode(errors="ignore").strip(" .")
    return f"_{stem}" if _DEVICE.fullmatch(stem) else stem
