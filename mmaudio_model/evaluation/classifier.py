"""Classifier of the procedural world's sound classes: a small convolutional network on log-mel spectrograms.

Its weights are beside this file, trained by `classifier_training`. It evaluates generated sounds, so it is trained to
tolerate level changes, noise and blur.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from einops import rearrange
from safetensors.torch import load_file
from torch import Tensor, nn

from mmaudio_model.evaluation.sounds import log_mels
from mmaudio_model.procedural_world.scene import CLASSES
from mmaudio_model.variants import MODE_16K

WEIGHTS = Path(__file__).with_name("classifier.safetensors")
WIDTHS = (16, 32, 48, 64)
CENTRE, SPREAD = -3.0, 1.0
"""Approximate mean and standard deviation of log10-mel values in the procedural world."""


class SoundClassifier(nn.Module):
    """Log10-mel spectrograms (B, 80, T), T of at least 16, to logits (B, classes)."""

    def __init__(self, classes: int = len(CLASSES)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in zip((1, *WIDTHS[:-1]), WIDTHS, strict=True):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
        self.body = nn.Sequential(*layers)
        bands = MODE_16K.mel_bands // 2 ** len(WIDTHS)
        self.head = nn.Linear(2 * WIDTHS[-1] * bands, classes)

    def forward(self, mels: Tensor) -> Tensor:
        features = rearrange(self.body((mels[:, None] - CENTRE) / SPREAD), "B C F T -> B (C F) T")
        out: Tensor = self.head(torch.cat([features.mean(dim=2), features.amax(dim=2)], dim=1))
        return out


def load_classifier(path: Path = WEIGHTS) -> SoundClassifier:
    """Return the trained classifier, in float32."""
    classifier = SoundClassifier()
    classifier.load_state_dict({name: value.float() for name, value in load_file(path).items()})
    return classifier.eval()


@torch.inference_mode()
def class_probabilities(classifier: SoundClassifier, waveforms: Sequence[np.ndarray]) -> np.ndarray:
    """Return float32 (sounds, classes), in the order of CLASSES.

    Args:
        waveforms: mono at 16 kHz, of any lengths.
    """
    rows = [classifier(torch.from_numpy(mel)[None]).softmax(dim=1)[0].numpy() for mel in log_mels(waveforms)]
    return np.stack(rows) if rows else np.zeros((0, len(CLASSES)), dtype=np.float32)
