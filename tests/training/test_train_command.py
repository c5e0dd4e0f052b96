"""`mmaudio train prepare | finetune | merge-lora` as a person uses them, on the small variant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from mmaudio_model.checkpoints.bundled import SUFFIX, read_part, write_part
from mmaudio_model.checkpoints.parts import PARTS, new_network
from mmaudio_model.checkpoints.random_init import fill_from_seed
from mmaudio_model.cli.train import train
from mmaudio_model.networks.vae import Vae
from mmaudio_model.training.export import ENCODER
from mmaudio_model.variants import get_variant
from tests.unit.mmaudio_model.media.videos import SOURCE_HZ, regular, write_video

TINY = get_variant("tiny_16k")


def write_weights(folder: Path) -> Path:
    """Write small weights that nobody trained."""
    networks = {part: new_network(TINY, part) for part in PARTS}
    for part, network in networks.items():
        fill_from_seed(network, part)
        write_part(folder / TINY.name / f"{part}{SUFFIX}", network.state_dict(), {})
    vae = Vae(TINY.mode)
    fill_from_seed(vae, "vae")
    encoder = {name: value for name, value in vae.state_dict().items() if name.startswith(ENCODER)}
    write_part(folder / TINY.name / f"vae_encoder{SUFFIX}", encoder, {})
    return folder


def run(*arguments: object) -> Result:
    return CliRunner().invoke(train, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("train")
    (folder / "videos").mkdir()
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, round(1.3 * SOURCE_HZ)).astype(np.float32)
    write_video(folder / "videos" / "noise.mp4", regular(33, 25), sound=noise)
    write_video(folder / "videos" / "silent.mp4", regular(33, 25))
    write_weights(folder / "weights")
    return folder


def test_from_a_folder_of_videos_to_weights(folder: Path) -> None:
    prepared = run(
        "prepare", "--variant", "tiny_16k", "--videos", folder / "videos", "--clips", folder / "clips",
        "--duration", 0.64, "--processes", 1,
    )  # fmt: skip
    assert prepared.exit_code == 0, prepared.output
    assert "skipped: silent.mp4 from 0 s: The video has no sound." in prepared.stderr
    assert "2 clips have no caption" in prepared.stderr
    assert prepared.stdout == f"{folder / 'clips'}: 2 clips of 0.64 s\n"

    common = ("--variant", "tiny_16k", "--weights", folder / "weights")
    few = ("--clips", folder / "clips", "--steps", 2, "--batch-size", 2, "--device", "cpu", "--learning-rate", 0.01)
    for more, run_folder in ((), folder / "whole"), (("--lora", 2), folder / "lora"):
        tuned = run("finetune", *common, *few, "--run", run_folder, *more)
        assert tuned.exit_code == 0, tuned.output
    merged = run("merge-lora", *common, "--adapter", folder / "lora" / "adapter", "--output", folder / "merged")
    assert merged.exit_code == 0, merged.output

    name = f"{TINY.name}/flow{SUFFIX}"
    before = read_part(folder / "weights" / name)
    for result in (folder / "whole" / "weights", folder / "merged"):
        after = read_part(result / name)
        assert after.keys() == before.keys()
        assert any(not np.array_equal(after[key], before[key]) for key in before)


def test_mistakes_are_sentences(folder: Path, tmp_path: Path) -> None:
    common = ("--variant", "tiny_16k", "--weights", folder / "weights")
    nothing = run("finetune", *common, "--clips", tmp_path, "--run", tmp_path / "run")
    assert (nothing.exit_code, nothing.stderr.splitlines()[-1][:11]) == (1, "Error: Got ")
    assert "which contains no shards" in nothing.stderr

    long = run("prepare", "--variant", "tiny_16k", "--videos", tmp_path, "--clips", tmp_path / "c", "--duration", 99)
    assert long.exit_code == 2
    assert "makes 0.32 to 30 s" in long.stderr

    no_adapter = run("merge-lora", *common, "--adapter", tmp_path, "--output", tmp_path / "out")
    assert no_adapter.exit_code == 1
    assert "adapter_config.json" in no_adapter.stderr
    assert not (tmp_path / "out").exists()
