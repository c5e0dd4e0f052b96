"""Memory-mapped shards: a folder per shard, with one array per field and one metadata entry per clip.

A shard is written under a temporary name and renamed when complete, so an interrupted preparation resumes and a reader
never sees a partial shard. Arrays are memory-mapped: a data set may be larger than memory.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mmaudio_model.errors import TrainingDataError

HEADER = "shard.json"


def write_shard(folder: Path, arrays: Iterable[Mapping[str, np.ndarray]], lines: Sequence[Mapping[str, Any]]) -> None:
    """Write one shard of len(lines) clips; all clips have arrays of the same names, shapes and dtypes."""
    draft = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    mapped: dict[str, np.memmap[Any, Any]] = {}
    for index, clip in enumerate(arrays):
        for name, array in clip.items():
            if name not in mapped:
                mapped[name] = np.lib.format.open_memmap(
                    draft / f"{name}.npy", mode="w+", dtype=array.dtype, shape=(len(lines), *array.shape)
                )
            mapped[name][index] = array
    for array in mapped.values():
        array.flush()
    (draft / HEADER).write_text(json.dumps({"fields": sorted(mapped), "clips": list(lines)}, ensure_ascii=False))
    shutil.rmtree(folder, ignore_errors=True)
    draft.rename(folder)


class Shards:
    """All shards of a data set as one sequence of clips.

    Args:
        folder: contains the shards.

    Raises:
        TrainingDataError: there is none, or their fields or shapes differ.
    """

    def __init__(self, folder: Path) -> None:
        headers = sorted(folder.glob(f"*/{HEADER}"))
        if not headers:
            raise TrainingDataError(f"Got {folder}, which contains no shards; create them with: mmaudio train prepare")
        self.folder = folder
        self.lines: list[dict[str, Any]] = []
        self._arrays: list[dict[str, np.ndarray]] = []
        self._starts = [0]
        for header in headers:
            content = json.loads(header.read_text())
            self._arrays.append(
                {name: np.load(header.with_name(f"{name}.npy"), mmap_mode="r") for name in content["fields"]}
            )
            self.lines.extend(content["clips"])
            self._starts.append(len(self.lines))
        shapes = {tuple(sorted((name, a.shape[1:], str(a.dtype)) for name, a in s.items())) for s in self._arrays}
        if len(shapes) != 1:
            raise TrainingDataError(f"The shards in {folder} have different fields or shapes; prepare them again.")

    def __len__(self) -> int:
        return len(self.lines)

    def get(self, field: str, index: int) -> np.ndarray:
        """Return one clip's array, memory-mapped.

        Raises:
            TrainingDataError: the shards have no such field.
        """
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        arrays = self._arrays[shard]
        if field not in arrays:
            raise TrainingDataError(
                f"The shards in {self.folder} have no field {field!r}; they have {', '.join(arrays)}."
            )
        values: np.ndarray = arrays[field][index - self._starts[shard]]
        return values

    def batch(self, field: str, indices: Sequence[int]) -> np.ndarray:
        """Return several clips' arrays, stacked."""
        return np.stack([self.get(field, index) for index in indices])
