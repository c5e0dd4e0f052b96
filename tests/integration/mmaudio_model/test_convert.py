"""The cache of converted checkpoints: made once, mapped, remade when stale or damaged, and never in the way."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from torch import nn

from mmaudio_model.checkpoints import convert, loading
from mmaudio_model.checkpoints.loading import load_part
from mmaudio_model.checkpoints.parts import PARTS, part_sources
from mmaudio_model.errors import WeightsMismatchError
from tests.published_weights import FLOW, FROM_FILES, change

SOURCES = part_sources(FROM_FILES)


def load(part: str, weights_dir: Path) -> nn.Module:
    return load_part(FROM_FILES, part, SOURCES[part], weights_dir / SOURCES[part].file.path)


def same(one: nn.Module, other: nn.Module) -> bool:
    mine, theirs = one.state_dict(), other.state_dict()
    return mine.keys() == theirs.keys() and all(torch.equal(mine[key], theirs[key]) for key in mine)


def forbid_reading_checkpoints(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the published file was read again")

    monkeypatch.setattr(loading, "fill_from_file", refuse)


@pytest.mark.parametrize("part", PARTS)
def test_a_checkpoint_is_read_once(
    part: str, weights_dir: Path, converted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load(part, weights_dir)
    assert len(list(converted.glob(f"{part}-*.safetensors"))) == 1
    forbid_reading_checkpoints(monkeypatch)

    assert same(load(part, weights_dir), first)


def test_a_changed_source_is_converted_anew_and_the_older_file_goes(weights_dir: Path, converted: Path) -> None:
    load("flow", weights_dir)
    (old,) = converted.glob("*.safetensors")
    mean = torch.full((1, 1, 20), 7.0)
    change(weights_dir / FLOW, latent_mean=mean)
    network = load("flow", weights_dir)

    assert torch.equal(network.get_parameter("latent_mean"), mean)
    (new,) = converted.glob("*.safetensors")
    assert new != old


@pytest.mark.parametrize("damage", ["cut", "emptied", "overwritten", "of another network"])
def test_a_damaged_file_is_made_again(damage: str, weights_dir: Path, converted: Path) -> None:
    first = load("flow", weights_dir)
    (path,) = converted.glob("*.safetensors")
    content = path.read_bytes()
    if damage == "of another network":
        load("sync", weights_dir)
        path.unlink()
        next(converted.glob("sync-*.safetensors")).rename(path)
    else:
        path.unlink()  # the first network still maps it
        path.write_bytes({"cut": content[:-100], "emptied": b"", "overwritten": b"\xff" * 1000}[damage])

    assert same(load("flow", weights_dir), first)
    assert path.read_bytes() == content


def test_a_cache_that_cannot_be_written_is_done_without(
    weights_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = load("vocoder", weights_dir)
    (tmp_path / "a file").touch()
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "a file"))  # nothing can be made in it, even by root

    assert same(load("vocoder", weights_dir), usual)


def test_a_full_disk_is_done_without(weights_dir: Path, converted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(weights_dir)
    monkeypatch.setattr(convert.shutil, "disk_usage", lambda _: usage._replace(free=1000))
    load("flow", weights_dir)

    assert [path.suffix for path in converted.iterdir()] == [".lock"]


def test_nothing_is_written_into_the_weights_folder(weights_dir: Path) -> None:
    before = sorted(weights_dir.rglob("*"))
    load("flow", weights_dir)

    assert sorted(weights_dir.rglob("*")) == before


def test_a_checkpoint_that_does_not_fit_leaves_no_converted_file(weights_dir: Path, converted: Path) -> None:
    change(weights_dir / FLOW, latent_mean=None)
    with pytest.raises(WeightsMismatchError, match="missing latent_mean"):
        load("flow", weights_dir)

    assert not list(converted.glob("*.safetensors"))


def test_weights_are_mapped_and_not_copied(weights_dir: Path, converted: Path) -> None:
    load("flow", weights_dir)
    network = load("flow", weights_dir)
    (path,) = converted.glob("*.safetensors")
    ranges = [
        tuple(int(end, 16) for end in line.split()[0].split("-"))
        for line in Path("/proc/self/maps").read_text().splitlines()
        if str(path) in line
    ]

    for name, parameter in network.named_parameters():
        assert any(start <= parameter.data_ptr() < end for start, end in ranges), name
