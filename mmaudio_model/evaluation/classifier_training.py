"""Training of the sound classifier on training seeds of the procedural world: `mmaudio eval train-classifier`."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy, interpolate

from mmaudio_model.evaluation.classifier import SoundClassifier
from mmaudio_model.evaluation.sounds import JUDGED_RATE_HZ, log_mels
from mmaudio_model.procedural_world.scene import CLASSES, HELD_OUT_FROM, make_scene
from mmaudio_model.procedural_world.sound import make_sound

TRAINING_SEEDS_FROM = 700_000
BATCH = 32
LEARNING_RATE = 2e-3
SHORTEST_CROP = 0.4
"""Least share of a clip in a training crop."""


@dataclass(frozen=True)
class Sounds:
    """Log10-mel spectrograms, float32 (N, 80, T), and class numbers, int64 (N,)."""

    mels: Tensor
    labels: Tensor


def render_sounds(first_seed: int, count: int) -> Sounds:
    """Render the sound of scenes, cycling through the classes."""
    labels = [index % len(CLASSES) for index in range(count)]
    scenes = (make_scene(first_seed + index, class_name=CLASSES[label]) for index, label in enumerate(labels))
    mels = log_mels([make_sound(scene, JUDGED_RATE_HZ) for scene in scenes])
    return Sounds(torch.from_numpy(np.stack(mels)), torch.tensor(labels))


def train_classifier(
    sounds: Sounds, *, epochs: int, seed: int = 0, on_epoch: Callable[[int, float], None] | None = None
) -> SoundClassifier:
    """Train a classifier; `on_epoch` is called with each epoch's number, from 1, and its mean loss."""
    torch.manual_seed(seed)
    rng = torch.Generator().manual_seed(seed)
    classifier = SoundClassifier()
    optimiser = torch.optim.AdamW(classifier.parameters(), lr=LEARNING_RATE, weight_decay=0.01)
    steps = math.ceil(len(sounds.labels) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=epochs * steps)
    for epoch in range(1, epochs + 1):
        classifier.train()
        losses = []
        for chosen in torch.randperm(len(sounds.labels), generator=rng).split(BATCH):
            logits = classifier(augment(sounds.mels[chosen], rng))
            loss = cross_entropy(logits, sounds.labels[chosen], label_smoothing=0.02)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
        if on_epoch is not None:
            on_epoch(epoch, sum(losses) / len(losses))
    return classifier.eval()


@torch.inference_mode()
def accuracy(classifier: SoundClassifier, sounds: Sounds) -> float:
    """Return the share of correctly classified sounds."""
    right = [
        int((classifier(mels).argmax(dim=1) == labels).sum())
        for mels, labels in zip(sounds.mels.split(BATCH), sounds.labels.split(BATCH), strict=True)
    ]
    return sum(right) / len(sounds.labels)


def held_out_sounds(count: int) -> Sounds:
    """Render held-out sounds, only to measure a classifier; never to train or select one."""
    return render_sounds(HELD_OUT_FROM, count)


def save_classifier(classifier: SoundClassifier, path: Path) -> None:
    """Write the weights as float16 safetensors; the file appears only when complete."""
    draft = path.with_name(f".{path.name}.part")
    try:
        save_file({name: value.half().contiguous() for name, value in classifier.state_dict().items()}, draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def augment(mels: Tensor, rng: torch.Generator) -> Tensor:
    """Return random crops of log10-mel spectrograms (B, 80, T) with changed level, tone, noise and blur."""
    count, bands, frames = mels.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=rng)

    length = round(frames * float(uniform(SHORTEST_CROP, 1.0, 1)))
    start = int(torch.randint(frames - length + 1, (1,), generator=rng))
    crop = mels[:, :, start : start + length]
    level = uniform(-0.5, 0.25, count, 1, 1)  # -10 to 5 dB
    tone = interpolate(uniform(-0.15, 0.15, count, 1, 5), bands, mode="linear").transpose(1, 2)  # +-3 dB
    noise = uniform(-5.0, -3.6, count, 1, 1) + 0.15 * torch.randn(crop.shape, generator=rng)
    mixed = torch.log10(10 ** (crop + level + tone) + 10**noise)
    # Half of them are blurred over three frames and bands, as by an autoencoder.
    blurred = avg_pool2d(mixed[:, None], 3, stride=1, padding=1, count_include_pad=False)[:, 0]
    share = uniform(0.0, 1.0, count, 1, 1) * (uniform(0.0, 1.0, count, 1, 1) < 0.5)
    uneven = uniform(0.0, 0.1, count, 1, 1) * torch.randn(crop.shape, generator=rng)
    return (mixed + share * (blurred - mixed) + uneven).clamp(min=-5.0)
