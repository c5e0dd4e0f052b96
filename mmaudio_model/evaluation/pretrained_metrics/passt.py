"""PaSST (Koutini et al. 2022), by the hear21passt package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmaudio_model.evaluation.pretrained_metrics.loading import read_checkpoint
from mmaudio_model.evaluation.pretrained_metrics.protocol import Adapter

WEIGHTS = "passt-s-f128-p16-s10-ap.476-swa.pt"
ARCHITECTURE = "passt_s_swa_p16_128_ap476"
SAMPLE_RATE_HZ = 32_000
WINDOW_SAMPLES = 10 * SAMPLE_RATE_HZ
CLASSES = 527
MEL: dict[str, float | None] = {
    "n_mels": 128,
    "sr": SAMPLE_RATE_HZ,
    "win_length": 800,
    "hopsize": 320,
    "n_fft": 1024,
    "freqm": 48,
    "timem": 192,
    "htk": False,
    "fmin": 0.0,
    "fmax": None,
    "norm": 1,
    "fmin_aug_range": 10,
    "fmax_aug_range": 2000,
}


class Passt:
    """Embedding (768) and logits (527 classes of AudioSet) of sounds zero-padded to 10 s."""

    sample_rate_hz = SAMPLE_RATE_HZ

    def __init__(self, folder: Path) -> None:
        from hear21passt.models.passt import get_model
        from hear21passt.models.preprocess import AugmentMelSTFT
        from hear21passt.wrapper import PasstBasicWrapper

        # The package's get_basic_model downloads the weights; this is equivalent with local ones.
        net = get_model(arch=ARCHITECTURE, pretrained=False)
        net.load_state_dict(read_checkpoint(folder / WEIGHTS))
        self._net = PasstBasicWrapper(mel=AugmentMelSTFT(**MEL), net=net, mode="all").eval()

    @torch.inference_mode()
    def describe(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        window = waveform[:WINDOW_SAMPLES]
        window = np.pad(window, (0, WINDOW_SAMPLES - len(window)))
        # Mode "all" gives both, joined.
        both = self._net(torch.from_numpy(window)[None])[0].numpy()
        return both[CLASSES:], both[:CLASSES]


PASST = Adapter("passt", "hear21passt", "pip install hear21passt", (WEIGHTS,), Passt)
