"""Fine-tuning from files in the published layout, at tiny sizes: the whole network, or an adapter."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from torch import Tensor

from mmaudio_model.errors import TrainingDataError
from mmaudio_model.media.frames import VideoFrames
from mmaudio_model.networks.flow import FlowNetwork
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.features import latent_statistics
from mmaudio_model.training.finetune import KEPT_AS_PUBLISHED, FineTuning, fine_tune, load_encoders, load_flow, merge
from mmaudio_model.training.log import read_log
from mmaudio_model.training.lora import add_adapter, merge_adapter
from mmaudio_model.training.options import TrainOptions
from tests.published_weights import FLOW, FROM_FILES, TINY, write_published
from tests.training.clips import write_clips

STEPS = 12
FALL = 0.9
"""Of the loss on the validation clips, in STEPS steps of both ways of training."""
PUBLISHED = replace(FROM_FILES, sync=replace(FROM_FILES.sync, token_a_frame=False))
FULL = TrainOptions(STEPS, 4, 2e-3, warmup_steps=2, ema_decay=0.5, log_every=4, validate_every=STEPS)
REQUEST = GenerationRequest(duration_s=0.64, seed=3, prompt="noise", num_steps=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finetune")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HOME", str(folder / "hf"))
        write_published(folder / "published")
        write_clips(folder / "clips", 6)
        fine_tune(plan(folder, None), device="cpu", on_progress=lambda *_: None)
        fine_tune(plan(folder, 4), device="cpu", on_progress=lambda *_: None)
        merge(PUBLISHED, folder / "run-4" / "adapter", folder / "published", folder / "merged")
    return folder


@pytest.fixture(autouse=True)
def cache(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HOME", str(folder / "hf"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hf" / "hub"))


def plan(folder: Path, rank: int | None) -> FineTuning:
    options = FULL if rank is None else replace(FULL, learning_rate=1e-2)
    return FineTuning(PUBLISHED, folder / "clips", folder / f"run-{rank}", options, folder / "published", rank)


def sound(weights_dir: Path) -> np.ndarray:
    (waveform,) = Pipeline.load(PUBLISHED, weights_dir=weights_dir).generate([REQUEST])
    assert waveform is not None
    return waveform


def file(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / FLOW, weights_only=True)


@pytest.mark.parametrize("rank", [None, 4])
def test_the_loss_falls(folder: Path, rank: int | None) -> None:
    first, last = read_log(folder / f"run-{rank}" / "flow", "validation")
    assert (first["step"], last["step"]) == (0, STEPS)
    assert last["loss"] < FALL * first["loss"]


@pytest.mark.parametrize("result", ["run-None/weights", "merged"])
def test_the_result_loads_like_the_published_folder_and_sounds_otherwise(folder: Path, result: str) -> None:
    before, after = sound(folder / "published"), sound(folder / result)
    assert np.isfinite(after).all()
    assert np.abs(after - before).max() > 1e-3 * np.abs(before).max()


def test_the_exported_file_has_the_published_keys_and_what_is_kept_as_published(folder: Path) -> None:
    before, after = file(folder / "published"), file(folder / "run-None" / "weights")
    assert before.keys() == after.keys()
    assert "latent_rot" in after, "a key that we do not use"
    for name in KEPT_AS_PUBLISHED:
        assert torch.equal(before[name], after[name])
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    # Of the last joint block only the sound is carried on: what the others ask there changes nothing.
    unused = {f"joint_blocks.1.{stream}_block.attn.q_norm.weight" for stream in ("clip", "text")}
    assert changed == before.keys() - KEPT_AS_PUBLISHED - {"latent_rot"} - unused


def test_the_exported_file_is_the_averaged_network(folder: Path) -> None:
    checkpoint = torch.load(folder / "run-None" / "flow" / "last.pt", weights_only=True)
    after = file(folder / "run-None" / "weights")
    average = checkpoint["average"]
    assert all(torch.equal(average[f"module.flow.{name}"], after[name]) for name in after if name != "latent_rot")
    assert not torch.equal(checkpoint["module"]["flow.t_embed.mlp.0.weight"], after["t_embed.mlp.0.weight"])


def test_the_other_parts_are_links_and_the_published_folder_is_as_it_was(folder: Path, tmp_path: Path) -> None:
    write_published(tmp_path)
    for path in (path for path in tmp_path.rglob("*") if path.is_file()):
        name = path.relative_to(tmp_path)
        ours = folder / "run-None" / "weights" / name
        assert ours.exists()
        assert ours.is_symlink() == (name != Path(FLOW))
        theirs = torch.load(folder / "published" / name, weights_only=True)
        assert str(torch.load(path, weights_only=True)) == str(theirs)


def test_lora_trains_its_adapter_alone(folder: Path) -> None:
    base = file(folder / "published")
    trained = torch.load(folder / "run-4" / "flow" / "last.pt", weights_only=True)["module"]
    adapter = {name for name in trained if ".lora_" in name}
    for name in trained.keys() - adapter:
        assert torch.equal(trained[name], base[name.removeprefix("flow.").replace(".base_layer", "")])
    assert any(trained[name].abs().max() > 0 for name in adapter if ".lora_B." in name), "they start at zero"
    kinds = {name.split(".lora_")[0].rsplit(".", 1)[-1] for name in adapter}
    assert kinds == {"qkv", "linear1", "w1", "w2", "w3", "1"}
    size = sum(path.stat().st_size for path in (folder / "run-4" / "adapter").iterdir())
    assert size < 0.2 * (folder / "published" / FLOW).stat().st_size


def velocity(flow: FlowNetwork) -> Tensor:
    draw = torch.Generator().manual_seed(0)
    sizes = PUBLISHED.flow
    shapes = [(2, 5, sizes.clip_dim), (2, 8, sizes.sync_dim), (2, 77, sizes.text_dim), (2, 20, flow.channels)]
    clip, sync, text, latent = (torch.randn(shape, generator=draw) for shape in shapes)
    with torch.no_grad():
        return flow.velocity(latent, torch.tensor([0.2, 0.7]), flow.prepare(clip, sync, text, 20))


def test_an_adapter_starts_as_nothing_and_merged_equals_unmerged(folder: Path) -> None:
    from peft import PeftModel

    untouched = velocity(load_flow(PUBLISHED, folder / "published"))
    fresh = load_flow(PUBLISHED, folder / "published")
    add_adapter(fresh, PUBLISHED, 4)
    assert torch.equal(velocity(fresh), untouched)

    beside = load_flow(PUBLISHED, folder / "published")
    PeftModel.from_pretrained(beside, str(folder / "run-4" / "adapter"))  # another program's way to use it
    unmerged = velocity(beside)
    merged = velocity(load_flow(PUBLISHED, folder / "merged"))
    assert (unmerged - untouched).abs().max() > 1e-2
    torch.testing.assert_close(merged, unmerged, rtol=1e-4, atol=1e-4)


def test_an_adapter_of_another_variant_or_none_is_refused(folder: Path, tmp_path: Path) -> None:
    flow = load_flow(PUBLISHED, folder / "published")
    with pytest.raises(TrainingDataError, match=r"has no adapter_config\.json"):
        merge_adapter(flow, PUBLISHED, tmp_path)
    with pytest.raises(TrainingDataError, match="was trained for mmaudio_small_16k, not for mmaudio_large_44k"):
        merge_adapter(flow, replace(PUBLISHED, name="large_44k"), folder / "run-4" / "adapter")


def test_features_are_what_the_pipeline_would_see_and_the_vae_says_of_the_sound(folder: Path) -> None:
    features, clips = Shards(folder / "run-None" / "features"), Shards(folder / "clips")
    stages: dict[str, Tensor] = {}
    pipeline = Pipeline.load(PUBLISHED, weights_dir=folder / "published")
    video = VideoFrames(np.array(clips.get("clip_frames", 1)), np.array(clips.get("sync_frames", 1)), 0.64)
    prompt = clips.lines[1]["captions"][0]
    pipeline.encode(
        [replace(REQUEST, prompt=prompt, video=video)], on_intermediate=lambda name, value: stages.update({name: value})
    )
    seen = {"clip": "clip_features", "sync": "sync_features"}
    for field, stage in seen.items():
        ours = torch.from_numpy(np.array(features.get(field, 1), np.float32))
        torch.testing.assert_close(ours, stages[stage], rtol=2e-3, atol=2e-3)
    words = torch.from_numpy(np.array(features.get("text", 1)[0], np.float32))
    torch.testing.assert_close(words, stages["text_features"], rtol=2e-3, atol=2e-3)

    mean, std = latent_statistics(features)
    assert mean.shape == std.shape == (1, 1, TINY.mode.latent_channels)
    sound = torch.from_numpy(np.array(clips.get("waveform", 1), np.float32) / 32767)[None]
    told, _ = load_encoders(PUBLISHED, folder / "published", "cpu").latent(sound)
    torch.testing.assert_close(
        torch.from_numpy(np.array(features.get("latent_mean", 1), np.float32)), told[0], rtol=2e-3, atol=2e-3
    )


def test_clips_for_another_variant_and_a_folder_in_use_are_refused(folder: Path) -> None:
    other = replace(PUBLISHED, clip=replace(PUBLISHED.clip, frame_size=384))
    with pytest.raises(TrainingDataError, match="Run `mmaudio train prepare` for this variant"):
        fine_tune(replace(plan(folder, None), variant=other), device="cpu", on_progress=lambda *_: None)
    with pytest.raises(TrainingDataError, match="choose another folder"):
        fine_tune(replace(plan(folder, 8), folder=folder / "run-4"), device="cpu", on_progress=lambda *_: None)


def test_a_run_that_is_done_is_not_done_again(folder: Path) -> None:
    told: list[str] = []
    path = folder / "run-None" / "features" / "00000" / "text.npy"
    before = path.stat().st_mtime_ns
    fine_tune(plan(folder, None), device="cpu", on_progress=lambda step, *_: told.append(step))
    assert told == []
    assert path.stat().st_mtime_ns == before
