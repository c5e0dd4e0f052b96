"""LAION-CLAP (Wu et al. 2023), by the laion_clap package."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from mmaudio_model.evaluation.pretrained_metrics.loading import read_checkpoint
from mmaudio_model.evaluation.pretrained_metrics.protocol import Adapter

WEIGHTS = "music_speech_audioset_epoch_15_esc_89.98.pt"
TOKENIZER = "roberta-base"
TOKENIZER_FILES = tuple(f"{TOKENIZER}/{name}" for name in ("config.json", "vocab.json", "merges.txt"))
PREFIX = "module."
STALE = "text_branch.embeddings.position_ids"
"""A buffer that older transformers kept in checkpoints; it holds no weights."""


class Clap:
    """One space for sounds and captions (512)."""

    sample_rate_hz = 48_000

    def __init__(self, folder: Path) -> None:
        import laion_clap

        # It looks roberta-base up by name; `offline` has made the folder of weights the place where that is found.
        self._net = laion_clap.CLAP_Module(enable_fusion=False, device="cpu", amodel="HTSAT-base")
        held = read_checkpoint(folder / WEIGHTS)
        tensors = {key.removeprefix(PREFIX): value for key, value in held.get("state_dict", held).items()}
        if STALE not in self._net.model.state_dict():
            tensors.pop(STALE, None)
        self._net.model.load_state_dict(tensors)
        self._net.eval()

    @torch.inference_mode()
    def embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        return self._net.get_audio_embedding_from_data(torch.from_numpy(waveform)[None], use_tensor=True)[0].numpy()

    @torch.inference_mode()
    def embed_text(self, caption: str) -> np.ndarray:
        # Twice: the package's tokenizer drops the batch dimension of a single caption.
        return np.asarray(self._net.get_text_embedding([caption, caption])[0])


CLAP = Adapter("clap", "laion_clap", "pip install laion-clap", (WEIGHTS, *TOKENIZER_FILES), Clap)
