"""The inputs that `mmaudio submit` is given: files, folders and addresses, each of which becomes a job."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import click

from mmaudio_client.errors import InvalidInputError
from mmaudio_client.inputs import IMAGE_SUFFIXES, VIDEO_SUFFIXES, check_file, is_image, is_remote

_EARLIER_RESULT = re.compile(r"(?P<stem>.+?)(-\d+)?-sound")


@dataclass(frozen=True)
class JobInput:
    """One input: a local file (`path`), or something that the server fetches (`address`)."""

    field: Literal["video", "image"]
    path: Path | None = None
    address: str | None = None

    @property
    def label(self) -> str:
        return str(self.path or self.address)

    @property
    def source(self) -> Path | str:
        return self.path or self.address or ""


def collect_inputs(
    given: Sequence[str], *, image: str | None, on_repeated: Callable[[JobInput], None] | None = None
) -> list[JobInput]:
    """Return one input per file, each file once; a folder stands for the videos and images directly in it.

    Args:
        image: an input to use as an image.
        on_repeated: called with each input that is there already.

    Raises:
        click.UsageError: an input is missing, empty or not readable; names every one.
    """
    found: dict[str, JobInput] = {}
    wrong: list[str] = []
    if image == "":
        wrong.append("--image is empty; give a file.")
    for text, field in [*((text, None) for text in given), *([(image, "image")] if image else [])]:
        try:
            for one in _inputs_of(text):
                if field == "image":
                    one = JobInput("image", one.path, one.address)
                key = str(one.path.resolve()) if one.path else one.label
                if key in found and on_repeated is not None:
                    on_repeated(one)
                found.setdefault(key, one)
        except InvalidInputError as exc:
            wrong.append(str(exc))
    if wrong:
        raise click.UsageError("\n".join(wrong))
    return [*found.values()]


def _inputs_of(text: str) -> list[JobInput]:
    if not text:
        raise InvalidInputError("INPUT is empty; give a file, a folder, an address or an upload id.")
    if is_remote(text):
        return [JobInput(_field_of(text), address=text)]
    path = Path(text)
    files = _media_files(path) if path.is_dir() else [path]
    for file in files:
        check_file(file)
    return [JobInput(_field_of(file.name), path=file) for file in files]


def _media_files(folder: Path) -> list[Path]:
    try:
        files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    except OSError as exc:
        raise InvalidInputError(f"Cannot read the folder {folder}: {exc.strerror}.") from exc
    media = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES | IMAGE_SUFFIXES]
    stems = {path.stem for path in media}
    media = [path for path in media if not _is_earlier_result(path.stem, stems)]
    if not media:
        suffixes = " ".join(sorted(VIDEO_SUFFIXES | IMAGE_SUFFIXES))
        raise InvalidInputError(f"There is no video or image in the folder {folder} (looked for {suffixes}).")
    return media


def _is_earlier_result(stem: str, stems: set[str]) -> bool:
    """Return whether a file is the video with sound that an earlier run saved beside its input."""
    match = _EARLIER_RESULT.fullmatch(stem)
    return match is not None and match["stem"] in stems


def _field_of(name: str) -> Literal["video", "image"]:
    return "image" if is_image(name) else "video"
