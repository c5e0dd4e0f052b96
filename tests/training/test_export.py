"""What is exported is what was trained: every part's averaged network, read back, computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from mmaudio_model.checkpoints.bundled import trained_file
from mmaudio_model.checkpoints.loading import load_bundled_part
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.export import export_parts, load_whole_vae
from mmaudio_model.training.loop import Trainer
from mmaudio_model.training.options import TrainOptions
from mmaudio_model.training.tasks.clip import ClipTask
from mmaudio_model.training.tasks.flow import FlowTask
from mmaudio_model.training.tasks.sync import SyncTask
from mmaudio_model.training.tasks.vae import VaeTask
from mmaudio_model.training.tasks.vocoder import VocoderTask
from mmaudio_model.variants import get_variant
from tests.training.clips import SMALL, write_clips
from tests.training.features import write_features

TINY = get_variant("tiny_16k")
OPTIONS = TrainOptions(steps=2, batch_size=2, learning_rate=1e-3, warmup_steps=1, ema_decay=0.5)
HALF = {"rtol": 2e-2, "atol": 2e-2}
"""Weights are kept in half precision, eleven bits; outputs are of about unit size."""


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Shards:
    return Shards(write_clips(tmp_path_factory.mktemp("clips"), 4, replace(SMALL, duration_s=1.28)))


def exported(task: object, folder: Path) -> nn.Module:
    """Train two steps, export; return the averaged module."""
    trainer = Trainer(task, OPTIONS, folder / "run")
    with torch.enable_grad():
        trainer.run()
    module = trainer.average.module.eval()
    export_parts(module, task.parts, TINY, folder, trained="two steps")
    return module


def noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1))


def load(part: str, folder: Path) -> nn.Module:
    return load_bundled_part(TINY, part, trained_file(TINY, part, folder)).eval()


@torch.no_grad()
def test_vae(clips: Shards, tmp_path: Path) -> None:
    trained = exported(VaeTask(TINY, clips), tmp_path).vae
    mel, latent = noise(1, 80, 40) * trained.data_std + trained.data_mean, noise(1, 20, 20)
    whole = load_whole_vae(TINY, tmp_path)

    for ours, theirs in zip(whole.encode(mel), trained.encode(mel), strict=True):
        torch.testing.assert_close(ours, theirs, **HALF)
    torch.testing.assert_close(whole.decode(latent), trained.decode(latent), **HALF)
    assert torch.equal(load("vae", tmp_path).decode(latent), whole.decode(latent))


@torch.no_grad()
def test_vocoder(clips: Shards, tmp_path: Path) -> None:
    trained = exported(VocoderTask(TINY, clips), tmp_path).vocoder
    mel = noise(1, 80, 16) - 2
    made = trained(mel)
    torch.testing.assert_close(load("vocoder", tmp_path)(mel), made, rtol=0, atol=2e-2 * float(made.abs().max()))


@torch.no_grad()
def test_clip(clips: Shards, tmp_path: Path) -> None:
    trained = exported(ClipTask(TINY, clips), tmp_path)
    pictures, tokens = noise(2, 3, 96, 96), torch.randint(1, 400, (2, 77))
    torch.testing.assert_close(load("clip_image", tmp_path)(pictures), trained.image(pictures), **HALF)
    torch.testing.assert_close(load("clip_text", tmp_path)(tokens), trained.text(tokens), **HALF)


@torch.no_grad()
def test_sync(clips: Shards, tmp_path: Path) -> None:
    trained = exported(SyncTask(TINY, clips), tmp_path).sync
    frames = noise(1, 16, 3, 80, 80)
    torch.testing.assert_close(load("sync", tmp_path)(frames), trained(frames), **HALF)


@torch.no_grad()
def test_flow(tmp_path: Path) -> None:
    features = write_features(tmp_path / "features", TINY, 0.64)
    trained = exported(FlowTask(TINY, features, empty_text=noise(77, TINY.flow.text_dim)), tmp_path).flow
    loaded = load("flow", tmp_path)
    inputs = noise(1, 5, 64), noise(1, 16, TINY.flow.sync_dim), noise(1, 77, 32), 20
    latent, time = noise(1, 20, 20), torch.tensor([0.4])

    one, other = (flow.velocity(latent, time, flow.prepare(*inputs)) for flow in (loaded, trained))
    assert other.abs().max() > 0
    torch.testing.assert_close(one, other, **HALF)
    for name in ("latent_mean", "latent_std", "empty_string_feat"):
        torch.testing.assert_close(getattr(loaded, name), getattr(trained, name), rtol=1e-3, atol=1e-4)
