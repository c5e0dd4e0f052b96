"""Shards: whole or not there, and a preparation that was interrupted goes on."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mmaudio_model.errors import TrainingDataError
from mmaudio_model.training.data.clip import ClipShape, TrainingClip
from mmaudio_model.training.data.prepare import CLIPS_A_SHARD, prepare, read_shape
from mmaudio_model.training.data.shards import HEADER, Shards, write_shard
from tests.training.clips import small_clip

TINIEST = ClipShape(duration_s=0.32, sample_rate_hz=1000, clip_size=2, sync_size=2)
NAMES = [str(number) for number in range(CLIPS_A_SHARD + 3)]


def clip_and_note(name: str, *, notes: Path, fails_at: str | None = None) -> TrainingClip:
    """Make a clip, and note that it was asked for."""
    if name == fails_at:
        raise ValueError(f"clip {name} fails")
    with notes.open("a") as file:
        file.write(f"{name}\n")
    return small_clip(name, TINIEST)


def fill(folder: Path, make: partial[TrainingClip]) -> list[tuple[int, int]]:
    told: list[tuple[int, int]] = []
    prepare(folder, NAMES, make, TINIEST, processes=1, on_shard=lambda done, total: told.append((done, total)))
    return told


def test_an_interrupted_preparation_goes_on_with_the_shard_that_is_missing(tmp_path: Path) -> None:
    folder, notes = tmp_path / "clips", tmp_path / "notes"
    with pytest.raises(ValueError, match=f"clip {NAMES[-1]} fails"):
        fill(folder, partial(clip_and_note, notes=notes, fails_at=NAMES[-1]))
    assert len(Shards(folder)) == CLIPS_A_SHARD, "half a shard is not seen"

    notes.unlink()
    told = fill(folder, partial(clip_and_note, notes=notes))

    assert told == [(CLIPS_A_SHARD, len(NAMES)), (len(NAMES), len(NAMES))]
    assert notes.read_text().split() == NAMES[CLIPS_A_SHARD:]
    shards = Shards(folder)
    assert [line["name"] for line in shards.lines] == NAMES
    for index in (0, CLIPS_A_SHARD - 1, CLIPS_A_SHARD, len(NAMES) - 1):
        clip = small_clip(NAMES[index], TINIEST)
        assert np.array_equal(shards.get("sync_frames", index), clip.sync_frames)
        assert np.abs(shards.get("waveform", index) / 32767 - clip.waveform).max() < 1e-4
        assert shards.lines[index]["captions"] == list(clip.captions)
    assert read_shape(folder) == TINIEST

    with pytest.raises(TrainingDataError, match="clips of another shape"):
        prepare(folder, NAMES, small_clip, ClipShape(1.0, 1000, 2, 2), processes=1, on_shard=lambda *_: None)


def test_a_shard_that_was_left_half_written_is_not_seen_and_is_written_anew(tmp_path: Path) -> None:
    def arrays(fail: bool) -> object:
        yield {"x": np.zeros(2)}
        if fail:
            raise KeyboardInterrupt
        yield {"x": np.ones(2)}

    with pytest.raises(KeyboardInterrupt):
        write_shard(tmp_path / "00000", arrays(fail=True), [{}, {}])
    with pytest.raises(TrainingDataError, match="which contains no shards"):
        Shards(tmp_path)

    write_shard(tmp_path / "00000", arrays(fail=False), [{}, {}])
    assert Shards(tmp_path).batch("x", [1, 0]).tolist() == [[1, 1], [0, 0]]
    assert [path.name for path in tmp_path.iterdir()] == ["00000"]


def test_shards_of_different_shapes_and_unknown_fields_are_said(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000", [{"x": np.zeros(2)}], [{}])
    with pytest.raises(TrainingDataError, match="have no field 'y'; they have x"):
        Shards(tmp_path).get("y", 0)

    write_shard(tmp_path / "00001", [{"x": np.zeros(3)}], [{}])
    with pytest.raises(TrainingDataError, match="different fields or shapes"):
        Shards(tmp_path)


def test_a_folder_that_was_not_prepared_is_said(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match=r"has no source\.json; create it with: mmaudio train prepare"):
        read_shape(tmp_path)


def test_the_arrays_are_mapped_and_not_read(tmp_path: Path) -> None:
    write_shard(tmp_path / "00000", [{"x": np.zeros(2)}], [{}])
    assert isinstance(Shards(tmp_path).get("x", 0).base, np.memmap)
    assert (tmp_path / "00000" / HEADER).is_file()
