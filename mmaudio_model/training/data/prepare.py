"""Writes clips into shards in several processes; existing shards are kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from mmaudio_model.errors import TrainingDataError
from mmaudio_model.training.data.clip import ClipShape, TrainingClip
from mmaudio_model.training.data.pool import map_in_processes
from mmaudio_model.training.data.shards import HEADER, write_shard

CLIPS_A_SHARD = 64
SOURCE = "source.json"

MakeClip = Callable[[str], TrainingClip]
"""Makes the clip with a given name; picklable, since worker processes call it."""


def prepare(
    folder: Path,
    names: Sequence[str],
    make_clip: MakeClip,
    shape: ClipShape,
    *,
    processes: int,
    on_shard: Callable[[int, int], None],
) -> None:
    """Write the clips of these names into shards below `folder`.

    Args:
        on_shard: called with (clips written, clips in total).

    Raises:
        TrainingDataError: the folder holds clips of another shape.
    """
    folder.mkdir(parents=True, exist_ok=True)
    source = folder / SOURCE
    if source.exists() and json.loads(source.read_text()) != asdict(shape):
        raise TrainingDataError(f"{folder} holds clips of another shape ({source.read_text()}); choose another folder.")
    source.write_text(json.dumps(asdict(shape)))
    blocks = [names[start : start + CLIPS_A_SHARD] for start in range(0, len(names), CLIPS_A_SHARD)]
    missing = {
        folder / f"{index:05d}": block
        for index, block in enumerate(blocks)
        if not (folder / f"{index:05d}" / HEADER).exists()
    }
    done = len(names) - sum(len(block) for block in missing.values())
    on_shard(done, len(names))
    counts = map_in_processes(partial(_write, make_clip), missing.keys(), missing.values(), processes=processes)
    for count in counts:
        done += count
        on_shard(done, len(names))


def read_shape(folder: Path) -> ClipShape:
    """Return the properties shared by the clips of a prepared folder.

    Raises:
        TrainingDataError: the folder was not prepared.
    """
    source = folder / SOURCE
    if not source.exists():
        raise TrainingDataError(f"Got {folder}, which has no {SOURCE}; create it with: mmaudio train prepare")
    return ClipShape(**json.loads(source.read_text()))


def _write(make_clip: MakeClip, folder: Path, names: Sequence[str]) -> int:
    lines: list[dict[str, object]] = [{"name": name} for name in names]

    def arrays() -> Iterator[dict[str, np.ndarray]]:
        for line, name in zip(lines, names, strict=True):
            clip = make_clip(name)
            line["captions"] = list(clip.captions)
            yield {
                "waveform": np.round(clip.waveform * 32767).astype(np.int16),
                "clip_frames": clip.clip_frames,
                "sync_frames": clip.sync_frames,
            }

    write_shard(folder, arrays(), lines)
    return len(names)
