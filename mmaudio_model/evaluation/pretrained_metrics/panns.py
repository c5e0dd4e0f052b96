"""PANNs CNN14 at 16 kHz (Kong et al. 2020), by the panns_inference package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmaudio_model.evaluation.pretrained_metrics.loading import read_checkpoint
from mmaudio_model.evaluation.pretrained_metrics.protocol import Adapter

WEIGHTS = "Cnn14_16k_mAP=0.438.pth"
SAMPLE_RATE_HZ = 16_000
SIZES = {"window_size": 512, "hop_size": 160, "mel_bins": 64, "fmin": 50, "fmax": 8_000, "classes_num": 527}


class Panns:
    """Embedding: input of CNN14's last layer (2048). Logits: before the sigmoid (527 classes of AudioSet)."""

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, folder: Path) -> None:
        from panns_inference.models import Cnn14

        self._net = Cnn14(sample_rate=SAMPLE_RATE_HZ, **SIZES)
        self._net.load_state_dict(read_checkpoint(folder / WEIGHTS)["model"])
        self._net.eval()

    @torch.inference_mode()
    def describe(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embedding = self._net(torch.from_numpy(waveform)[None])["embedding"]
        return embedding[0].numpy(), self._net.fc_audioset(embedding)[0].numpy()


def _unready() -> str | None:
    # The package downloads this file at import if it is missing.
    labels = Path.home() / "panns_data" / "class_labels_indices.csv"
    if labels.is_file():
        return None
    return f"panns_inference needs {labels}, AudioSet's list of classes; put it there, nothing is downloaded."


PANNS = Adapter("panns", "panns_inference", "pip install panns_inference", (WEIGHTS,), Panns, _unready)
