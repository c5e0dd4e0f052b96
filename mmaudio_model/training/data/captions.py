"""Reads captions of the videos in a folder: `NAME.txt` beside a video, `captions.csv` or `captions.jsonl`."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from mmaudio_model.errors import TrainingDataError

TABLE, LINES = "captions.csv", "captions.jsonl"


def read_captions(folder: Path) -> Mapping[str, tuple[str, ...]]:
    """Return the captions of `captions.csv` and `captions.jsonl`, keyed by the video's path relative to the folder.

    The CSV table has the columns `file` and `caption`, one row per caption. A line of the JSONL file is
    `{"file": ..., "caption": ...}` or `{"file": ..., "captions": [...]}`.

    Raises:
        TrainingDataError: a line cannot be parsed, or names a file that does not exist.
    """
    captions: dict[str, list[str]] = defaultdict(list)
    for where, name, caption in (*_of_table(folder / TABLE), *_of_lines(folder / LINES)):
        if not (folder / name).is_file():
            raise TrainingDataError(f"{where} names {name!r}, which is not in {folder}.")
        captions[Path(name).as_posix()].append(caption)
    return {name: tuple(found) for name, found in captions.items()}


def caption_file(video: Path) -> tuple[str, ...]:
    """Return the captions of the text file with the video's name, one per line; empty if there is no such file.

    Raises:
        TrainingDataError: the file is not UTF-8.
    """
    path = video.with_suffix(".txt")
    if not path.is_file():
        return ()
    return tuple(line.strip() for line in _text(path).splitlines() if line.strip())


def _of_table(path: Path) -> Iterator[tuple[str, str, str]]:
    if not path.is_file():
        return
    rows = csv.DictReader(_text(path).splitlines())
    if not {"file", "caption"} <= set(rows.fieldnames or ()):
        raise TrainingDataError(f"{path} has the columns {rows.fieldnames}; it needs `file` and `caption`.")
    for row in rows:
        where = f"Line {rows.line_num} of {path}"
        if not row["file"] or not row["caption"]:
            raise TrainingDataError(f"{where} lacks a file or a caption.")
        yield where, row["file"], row["caption"]


def _of_lines(path: Path) -> Iterator[tuple[str, str, str]]:
    if not path.is_file():
        return
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip():
            continue
        where = f"Line {number} of {path}"
        try:
            entry = json.loads(line)
            name = entry["file"]
            found = entry["captions"] if "captions" in entry else [entry["caption"]]
        except (ValueError, KeyError, TypeError) as exc:
            raise TrainingDataError(f'{where} is not like {{"file": "a.mp4", "caption": "rain on a roof"}}.') from exc
        if not isinstance(name, str) or not isinstance(found, list) or not all(isinstance(one, str) for one in found):
            raise TrainingDataError(f"{where}: `file` and each caption must be text.")
        for caption in found:
            yield where, name, caption


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise TrainingDataError(f"{path} is not UTF-8 text: {exc}") from exc
