"""Weights from files in the published layout, and what is said when they do not fit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from huggingface_hub import constants

from mmaudio_model.checkpoints.files import CLIP_REPOSITORY, find_file, is_installed, needed_files
from mmaudio_model.checkpoints.loading import load_networks, new_networks
from mmaudio_model.checkpoints.seeded import fill_from_seed
from mmaudio_model.errors import WeightsMismatchError, WeightsMissingError
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from mmaudio_model.variants import Variant, get_variant
from tests.unit.mmaudio_model.pictures import moving_picture

TINY = get_variant("tiny_16k")
# tiny_16k's sizes as if they were published: read from files, in the layout of the 16 kHz variants.
FROM_FILES = replace(TINY, name="small_16k", mode=replace(TINY.mode, name="16k"), seeded=False)
FLOW, VAE = "weights/mmaudio_small_16k.pth", "ext_weights/v1-16.pth"
VOCODER, SYNC = "ext_weights/best_netG.pt", "ext_weights/synchformer_state_dict.pth"
CLIP = "ext_weights/open_clip_pytorch_model.bin"


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache, whatever this machine has."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    return cache


@pytest.fixture
def weights_dir(tmp_path: Path) -> Path:
    """tiny_16k's weights as the published files have theirs: prefixes, containers, old names, things not wanted."""
    folder = tmp_path / "published"
    states: dict[str, dict[str, Any]] = {}
    for part, network in new_networks(TINY).items():
        fill_from_seed(network, part)
        states[part] = dict(network.state_dict())
    old_names = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}
    for new, old in old_names.items():
        states["vocoder"] = {key.replace(new, old): value for key, value in states["vocoder"].items()}
    states["flow"]["latent_rot"] = torch.zeros(3)
    states["sync"] = {f"vfeat_extractor.{key}": value for key, value in states["sync"].items()}
    states["sync"]["afeat_extractor.ast.weight"] = torch.zeros(2)
    states["sync"]["vfeat_extractor.patch_embed.proj.weight"] = torch.zeros(2)
    contents = {FLOW: states["flow"], VAE: states["vae"], SYNC: states["sync"], CLIP: states["clip"]}
    contents[VOCODER] = {"generator": states["vocoder"]}
    for path, content in contents.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        torch.save(content, folder / path)
    return folder


def load(weights_dir: Path, variant: Variant = FROM_FILES) -> None:
    load_networks(variant, weights_dir=weights_dir, device="cpu", dtype=torch.float32)


def change(path: Path, **changes: torch.Tensor | None) -> None:
    """Set tensors of a file; None takes one out."""
    content = torch.load(path, weights_only=True)
    for key, value in changes.items():
        content.pop(key, None)
        if value is not None:
            content[key] = value
    torch.save(content, path)


def test_a_published_folder_gives_the_sound_of_the_weights_in_it(tiny: Pipeline, weights_dir: Path) -> None:
    request = GenerationRequest(duration_s=1.0, seed=3, prompt="rain", num_steps=3, video=moving_picture(1.0))
    assert is_installed(FROM_FILES, weights_dir)
    (loaded,) = Pipeline.load(FROM_FILES, weights_dir=weights_dir).generate([request])
    (seeded,) = tiny.generate([request])

    assert loaded is not None
    assert seeded is not None
    assert np.array_equal(loaded, seeded)


def test_loading_leaves_the_files_as_they_were(weights_dir: Path) -> None:
    before = (weights_dir / VAE).read_bytes()
    load(weights_dir)  # maps the file into memory and folds the filters

    assert (weights_dir / VAE).read_bytes() == before


def test_a_missing_file_is_named_with_where_it_was_sought_and_how_to_get_it(weights_dir: Path) -> None:
    (weights_dir / VAE).unlink()

    assert not is_installed(FROM_FILES, weights_dir)
    with pytest.raises(WeightsMissingError) as caught:
        load(weights_dir)
    for said in (VAE, str(weights_dir), "hkchengrex/MMAudio", "mmaudio weights list"):
        assert said in str(caught.value)


def test_without_a_folder_the_hub_cache_is_searched(weights_dir: Path, hub_cache: Path) -> None:
    (clip,) = (file for file in needed_files(FROM_FILES) if file.part == "clip")
    assert find_file(clip, None) is None
    repository = hub_cache / f"models--{CLIP_REPOSITORY.replace('/', '--')}"
    snapshot = repository / "snapshots" / "0123abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("0123abc")
    (weights_dir / CLIP).rename(snapshot / "open_clip_pytorch_model.bin")

    assert find_file(clip, None) == snapshot / "open_clip_pytorch_model.bin"
    load(weights_dir)  # the rest from the folder


def test_missing_and_unknown_tensors_are_named(weights_dir: Path) -> None:
    change(weights_dir / FLOW, latent_mean=None, surprise=torch.zeros(1))

    with pytest.raises(WeightsMismatchError, match=r"mmaudio_small_16k.*missing latent_mean; unknown surprise"):
        load(weights_dir)


def test_a_tensor_of_another_shape_is_named(weights_dir: Path) -> None:
    change(weights_dir / FLOW, latent_std=torch.ones(1, 1, 40))

    with pytest.raises(WeightsMismatchError, match=r"(?s)mmaudio_small_16k.*latent_std.*40"):
        load(weights_dir)


def test_a_file_without_its_container_is_said_so(weights_dir: Path) -> None:
    torch.save({"discriminator": {}}, weights_dir / VOCODER)

    with pytest.raises(WeightsMismatchError, match=r"no entry 'generator'; it holds discriminator"):
        load(weights_dir)


@pytest.mark.parametrize("content", [b"", b"<html>Not Found</html>", b"PK\x03\x04 and then nothing"])
def test_a_file_that_is_no_checkpoint_is_said_so(weights_dir: Path, content: bytes) -> None:
    (weights_dir / VAE).write_bytes(content)

    with pytest.raises(WeightsMismatchError, match=r"v1-16\.pth cannot be read"):
        load(weights_dir)


def test_code_in_a_checkpoint_is_not_run(weights_dir: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "sprung",)

    torch.save({"generator": Trap()}, weights_dir / VOCODER)

    with pytest.raises(WeightsMismatchError, match=r"best_netG\.pt cannot be read"):
        load(weights_dir)
    assert not (tmp_path / "sprung").exists()


def test_weights_from_the_seed_do_not_depend_on_global_randomness() -> None:
    drawn = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        network = new_networks(TINY)["flow"]
        fill_from_seed(network, "flow")
        drawn.append(network.state_dict())

    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(drawn[0][key], drawn[1][key]) for key in drawn[0])
