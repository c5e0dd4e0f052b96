"""Audio samples written at each validation, to the run folder's `samples/`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from mmaudio_model.checkpoints.bundled import trained_file
from mmaudio_model.checkpoints.loading import load_bundled_part
from mmaudio_model.media.audio import Sound, write_audio
from mmaudio_model.networks.flow import FlowNetwork
from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.networks.vae import Vae
from mmaudio_model.sampling import Guidance, draw_noise, euler
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.task import split, waveforms
from mmaudio_model.variants import Variant

COUNT = 3
STEPS, STRENGTH = 25, 4.5

WriteSamples = Callable[[nn.Module, int], None]


def vocoder_samples(variant: Variant, clips: Shards, folder: Path) -> WriteSamples:
    """Return a callback that writes a few clips' sound after analysis and resynthesis by the vocoder."""
    indices = [int(index) for index in split(clips)[1][:COUNT]]
    mel = MelSpectrogram(variant.mode)

    @torch.inference_mode()
    def write(module: nn.Module, step: int) -> None:
        vocoder = module.get_submodule("vocoder")
        for index in indices:
            sound = vocoder(mel(waveforms(clips, [index])))[0, 0]
            _write(folder, step, clips.lines[index]["name"], sound, variant)

    return write


def flow_samples(variant: Variant, features: Shards, weights_dir: Path, folder: Path) -> WriteSamples:
    """Return a callback that generates and writes sound for a few clips' features, with guidance."""
    indices = [int(index) for index in split(features)[1][:COUNT]]
    vae, vocoder = (
        load_bundled_part(variant, part, trained_file(variant, part, weights_dir)).eval() for part in ("vae", "vocoder")
    )
    assert isinstance(vae, Vae)

    def read(name: str, index: int) -> Tensor:
        return torch.from_numpy(features.get(name, index).astype(np.float32))

    @torch.inference_mode()
    def write(module: nn.Module, step: int) -> None:
        flow = module.get_submodule("flow")
        assert isinstance(flow, FlowNetwork)
        for index in indices:
            clip, sync, text = (read(name, index)[None] for name in ("clip", "sync", "text"))
            tokens = features.get("latent_mean", index).shape[0]
            empty = flow.prepare(
                flow.empty_clip_feat.expand(1, clip.shape[1], -1),
                flow.empty_sync_feat.expand(1, sync.shape[1], -1),
                flow.empty_string_feat[None],
                tokens,
            )
            guidance = Guidance(flow.prepare(clip, sync, text[:, 0], tokens), empty, torch.full((1, 1, 1), STRENGTH))
            noise = draw_noise(index, (tokens, variant.mode.latent_channels))
            latent, _ = euler(flow, noise, guidance, STEPS)
            sound = vocoder(vae.decode(flow.denormalise(latent)))[0, 0]
            _write(folder, step, features.lines[index]["name"], sound, variant)

    return write


def _write(folder: Path, step: int, name: str, sound: Tensor, variant: Variant) -> None:
    samples = folder / "samples"
    samples.mkdir(exist_ok=True)
    heard = Sound.mono(sound.float().numpy(), variant.sample_rate_hz)
    write_audio(samples / f"{step:06d}-{name}.flac", heard, "flac")
