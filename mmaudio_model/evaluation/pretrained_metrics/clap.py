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
"""A buffer that older versions of transformers saved in checkpoints; not a weight."""


class Clap:
    """CLAP embeddings of sounds and captions (512)."""

    sample_rate_hz = 48_000

    def __init__(self, folder: Path) -> None:
        import laion_clap

        # It looks up roberta-base by name; `offline` makes the weights folder the working directory, where it is found.
        self._net = laion_clap.CLAP_Module(enable_fusion=False, device="cpu", amodel="HTSAT-base")
        held = read_checkpoint(folder / WEIGHTS)
        tensors = {key.removeprefix(PREFIX): value for key, value in held.get("state_dict", held).items()}
        if STALE not in self._net.model.state_dict():
            tensors.pop(STALE, None)
        self._net.model.load_state_dict(tensors)
        self._net.eval()

    @torch.inference_mode()
    def embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        batch = torch.from_numpy(waveform)[None]
        values: np.ndarray = self._net.get_audio_embedding_from_data(batch, use_tensor=True)[0].numpy()
        return values

    @torch.inference_mode()
    def embed_text(self, caption: str) -> np.ndarray:
        # Twice: the package's tokenizer drops the batch dimension of a single caption.
        return np.asarray(self._net.get_text_embedding([caption, caption])[0])


CLAP = Adapter("clap", "laion_clap", "pip install laion-clap", (WEIGHTS, *TOKENIZER_FILES), Clap)
