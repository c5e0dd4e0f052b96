"""Weights from files in the published layout, and what is said when they do not fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mmaudio_model.checkpoints.files import find_file, is_installed
from mmaudio_model.checkpoints.loading import load_networks
from mmaudio_model.checkpoints.parts import PARTS, needed_parts, new_network
from mmaudio_model.checkpoints.published import CLIP_REPOSITORY, REVISIONS, needed_files
from mmaudio_model.checkpoints.random_init import fill_from_seed
from mmaudio_model.errors import WeightsMismatchError, WeightsMissingError
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from tests.noise_frames import moving_picture
from tests.published_weights import CLIP, FLOW, FROM_FILES, SYNC, TINY, VAE, VOCODER, change


def load(weights_dir: Path) -> None:
    load_networks(FROM_FILES, weights_dir=weights_dir, device="cpu", dtype=torch.float32)


def test_a_published_folder_gives_the_sound_of_the_weights_in_it(tiny: Pipeline, weights_dir: Path) -> None:
    request = GenerationRequest(duration_s=1.0, seed=3, prompt="rain", num_steps=3, video=moving_picture(1.0))
    assert is_installed(FROM_FILES, weights_dir)
    (shipped,) = tiny.generate([request])

    for _ in ("as published", "converted"):
        (loaded,) = Pipeline.load(FROM_FILES, weights_dir=weights_dir).generate([request])
        assert loaded is not None
        assert shipped is not None
        assert np.array_equal(loaded, shipped)


def test_loading_leaves_the_files_as_they_were(weights_dir: Path) -> None:
    before = (weights_dir / VAE).read_bytes()
    load(weights_dir)  # maps the file into memory and folds the filters

    assert (weights_dir / VAE).read_bytes() == before


def test_words_alone_need_neither_the_image_tower_nor_the_synchronisation_encoder(weights_dir: Path) -> None:
    parts = needed_parts(video=False, image=False, mask_away_clip=False)
    networks = load_networks(FROM_FILES, weights_dir=weights_dir, device="cpu", dtype=torch.float32, parts=parts)

    assert set(networks.parts()) == {"flow", "clip_text", "vae", "vocoder"}


@pytest.mark.parametrize(
    ("video", "image", "mask_away_clip", "unused"),
    [(True, False, False, set()), (True, False, True, {"clip_image"}), (False, True, False, {"sync"})],
)
def test_only_what_a_request_runs_is_needed(video: bool, image: bool, mask_away_clip: bool, unused: set[str]) -> None:
    assert set(PARTS) - set(needed_parts(video=video, image=image, mask_away_clip=mask_away_clip)) == unused


def test_a_part_that_was_not_loaded_comes_when_it_is_used(tiny: Pipeline, weights_dir: Path) -> None:
    request = GenerationRequest(duration_s=1.0, seed=3, prompt="rain", num_steps=2, video=moving_picture(1.0))
    told: list[str] = []
    pipeline = Pipeline.load(FROM_FILES, weights_dir=weights_dir, parts=["flow"], on_part=told.append)
    assert told == ["flow"]
    (late,), (shipped,) = pipeline.generate([request]), tiny.generate([request])

    assert sorted(told) == sorted(PARTS)
    assert late is not None
    assert np.array_equal(late, shipped)


def test_a_missing_file_is_named_with_where_it_was_sought_and_how_to_get_it(weights_dir: Path) -> None:
    (weights_dir / VAE).unlink()

    assert not is_installed(FROM_FILES, weights_dir)
    with pytest.raises(WeightsMissingError) as caught:
        load(weights_dir)
    for said in (VAE, str(weights_dir), "hkchengrex/MMAudio", "mmaudio weights fetch small_16k"):
        assert said in str(caught.value)


def test_without_a_folder_the_hub_cache_is_searched_at_the_pinned_revision(weights_dir: Path, hub_cache: Path) -> None:
    (clip,) = (file for file in needed_files(FROM_FILES) if file.path == CLIP)
    assert find_file(clip, None) is None
    snapshots = hub_cache / f"models--{CLIP_REPOSITORY.replace('/', '--')}" / "snapshots"
    (snapshots / "0123abc").mkdir(parents=True)
    (weights_dir / CLIP).rename(snapshots / "0123abc" / "open_clip_pytorch_model.bin")
    assert find_file(clip, None) is None
    pinned = (snapshots / "0123abc").rename(snapshots / REVISIONS[CLIP_REPOSITORY])

    assert find_file(clip, None) == pinned / "open_clip_pytorch_model.bin"
    load(weights_dir)  # the rest from the folder


def test_missing_and_unknown_tensors_are_named(weights_dir: Path) -> None:
    change(weights_dir / FLOW, latent_mean=None, surprise=torch.zeros(1))

    with pytest.raises(WeightsMismatchError, match=r"mmaudio_small_16k.*missing latent_mean; unknown surprise"):
        load(weights_dir)


@pytest.mark.parametrize("path", [VAE, CLIP, SYNC])
def test_a_tensor_that_belongs_to_nothing_is_named(weights_dir: Path, path: str) -> None:
    prefix = "vfeat_extractor." if path == SYNC else ""
    change(weights_dir / path, **{f"{prefix}surprise": torch.zeros(1)})

    with pytest.raises(WeightsMismatchError, match=r"unknown surprise"):
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
        network = new_network(TINY, "flow")
        fill_from_seed(network, "flow")
        drawn.append(network.state_dict())

    assert drawn[0].keys() == drawn[1].keys()
    assert all(torch.equal(drawn[0][key], drawn[1][key]) for key in drawn[0])
