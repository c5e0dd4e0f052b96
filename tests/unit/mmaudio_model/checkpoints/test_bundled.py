"""Weights of a bundled variant: those in the package, and those of a folder, which take precedence."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mmaudio_model.checkpoints.bundled import SHIPPED, SUFFIX, bundled_file, trained_file, vae_files
from mmaudio_model.checkpoints.parts import PARTS
from mmaudio_model.errors import WeightsMissingError
from mmaudio_model.variants import get_variant

TINY = get_variant("tiny_16k")
MOST_BYTES = 25_000_000


def write(folder: Path, part: str) -> Path:
    path = folder / TINY.name / f"{part}{SUFFIX}"
    path.parent.mkdir(exist_ok=True)
    shutil.copyfile(SHIPPED / TINY.name / f"flow{SUFFIX}", path)
    return path


def test_every_part_ships_with_its_card_and_is_small_enough_for_a_repository() -> None:
    files = [bundled_file(TINY, part, None) for part in PARTS]

    assert {file.parent for file in files} == {SHIPPED / TINY.name}
    assert sum(file.stat().st_size for file in files) <= MOST_BYTES
    assert "license: mit" in (SHIPPED / TINY.name / "README.md").read_text()


def test_a_part_in_the_folder_goes_before_the_one_that_ships(tmp_path: Path) -> None:
    flow = write(tmp_path, "flow")

    assert bundled_file(TINY, "flow", tmp_path) == flow
    assert bundled_file(TINY, "vae", tmp_path) == bundled_file(TINY, "vae", None)


def test_a_variant_that_nobody_trained_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"no flow of another in .*mmaudio train world"):
        bundled_file(replace(TINY, name="another"), "flow", tmp_path)  # an empty folder


def test_a_training_run_takes_no_part_that_ships(tmp_path: Path) -> None:
    with pytest.raises(WeightsMissingError, match=r"no sync of tiny_16k in .*mmaudio train world"):
        trained_file(TINY, "sync", tmp_path)


def test_the_two_halves_of_a_vae_come_from_one_folder(tmp_path: Path) -> None:
    write(tmp_path, "vae_encoder")
    write(tmp_path, "flow")
    with pytest.raises(WeightsMissingError, match="no vae_encoder"):
        vae_files(TINY, tmp_path)  # its decoder would be the bundled one
    decoder = write(tmp_path, "vae")

    assert vae_files(TINY, tmp_path) == (decoder, tmp_path / TINY.name / f"vae_encoder{SUFFIX}")
