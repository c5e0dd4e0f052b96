"""Latents and features of whole clips for training the flow network, computed once and stored in shards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from mmaudio_model.lengths import segment_frames, sequence_lengths
from mmaudio_model.networks.clip import ImageTower, TextTower, encode_frames, encode_tokens
from mmaudio_model.networks.mel import MelSpectrogram
from mmaudio_model.networks.synchformer import SynchformerVisual
from mmaudio_model.networks.tokenizer import tokenizer
from mmaudio_model.networks.vae import Vae
from mmaudio_model.training.data.shards import HEADER, Shards, write_shard
from mmaudio_model.training.task import waveforms
from mmaudio_model.variants import Variant

CLIPS_A_SHARD = 64
CAPTIONS_KEPT = 5


@dataclass(frozen=True)
class Encoders:
    """The frozen feature extractors; the VAE includes its encoder."""

    variant: Variant
    vae: Vae
    clip_image: ImageTower
    clip_text: TextTower
    sync: SynchformerVisual
    device: str = "cpu"

    @torch.inference_mode()
    def text(self, captions: list[str]) -> Tensor:
        """Return (B, 77, text_dim)."""
        return encode_tokens(self.clip_text, tokenizer()(captions).to(self.device)).float().cpu()

    @torch.inference_mode()
    def clip(self, frames: np.ndarray) -> Tensor:
        """Return (T, clip_dim) of uint8 frames (T, H, W, 3)."""
        return encode_frames(self.clip_image, self._pixels(frames)).float().cpu()

    @torch.inference_mode()
    def motion(self, frames: np.ndarray, sync_tokens: int) -> Tensor:
        """Return (S, sync_dim) of uint8 frames (F, H, W, 3)."""
        indices_by_segment = np.minimum(segment_frames(self.variant, sync_tokens), len(frames) - 1)  # (segments, 16)
        out: Tensor = self.sync((self._pixels(frames) * 2 - 1)[indices_by_segment]).flatten(0, 1).float().cpu()
        return out

    @torch.inference_mode()
    def latent(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of the latents of waveforms (B, samples), each (B, N, C)."""
        mean, std = self.vae.encode(self._mel(waveform.to(self.device)))
        return mean.float().cpu(), std.float().cpu()

    @cached_property
    def _mel(self) -> MelSpectrogram:
        return MelSpectrogram(self.variant.mode).to(self.device)

    def _pixels(self, frames: np.ndarray) -> Tensor:
        pixels = torch.from_numpy(np.array(frames)).to(self.device).permute(0, 3, 1, 2)
        return pixels.float() * (1 / 255)


def extract_features(
    clips: Shards,
    duration_s: float,
    encoders: Encoders,
    folder: Path,
    *,
    count: int | None = None,
    on_clips: Callable[[int, int], None],
    share: tuple[int, int] = (0, 1),
) -> None:
    """Write the features of the first `count` clips, or all, into shards below `folder`; existing shards are kept.

    Fields, float16: `latent_mean`, `latent_std` (N, C) · `clip` (T, clip_dim) · `sync` (S, sync_dim) · `text`
    (5, 77, text_dim): the captions, repeated if there are fewer than five.

    Args:
        share: (rank, world size); this process writes every world-size-th shard.
    """
    lengths = sequence_lengths(encoders.variant, duration_s)
    # Latent tokens are whole, so the sound is padded with silence by less than a token.
    padding = lengths.decoded_samples - lengths.samples

    def arrays(indices: range) -> Iterator[dict[str, np.ndarray]]:
        for index in indices:
            sound = torch.nn.functional.pad(waveforms(clips, [index]), (0, padding))
            mean, std = encoders.latent(sound)
            captions = (clips.lines[index]["captions"] or [""])[:CAPTIONS_KEPT]
            text = encoders.text(captions)
            yield {
                "latent_mean": _half(mean[0]),
                "latent_std": _half(std[0]),
                "clip": _half(encoders.clip(clips.get("clip_frames", index))),
                "sync": _half(encoders.motion(clips.get("sync_frames", index), lengths.sync)),
                "text": _half(text[np.arange(CAPTIONS_KEPT) % len(captions)]),
            }

    count = len(clips) if count is None else min(count, len(clips))
    for start in range(0, count, CLIPS_A_SHARD):
        indices = range(start, min(start + CLIPS_A_SHARD, count))
        shard = folder / f"{start // CLIPS_A_SHARD:05d}"
        if start // CLIPS_A_SHARD % share[1] != share[0]:
            continue
        if not (shard / HEADER).exists():
            write_shard(shard, arrays(indices), [clips.lines[index] for index in indices])
        on_clips(indices.stop, count)


def latent_statistics(features: Shards) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each latent channel, float32 (1, 1, C)."""
    means = torch.from_numpy(features.batch("latent_mean", range(len(features))).astype(np.float32))
    stds = torch.from_numpy(features.batch("latent_std", range(len(features))).astype(np.float32))
    mean = means.mean((0, 1), keepdim=True)
    spread = ((means - mean).square() + stds.square()).mean((0, 1), keepdim=True).sqrt()
    return mean, spread


def _half(values: Tensor) -> np.ndarray:
    return values.numpy().astype(np.float16)
