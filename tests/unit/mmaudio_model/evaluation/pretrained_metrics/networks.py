"""Tiny networks with random weights in files, found and loaded as the published ones are."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmaudio_model.evaluation.pretrained_metrics.evaluate import Adapters
from mmaudio_model.evaluation.pretrained_metrics.frames import square_frames
from mmaudio_model.evaluation.pretrained_metrics.loading import read_checkpoint
from mmaudio_model.evaluation.pretrained_metrics.protocol import CLIP_S, Adapter

RATE_HZ, BANDS, WIDTH, OFFSETS = 8_000, 32, 6, 21
PACKAGE = "tiny_metric_networks"


class Layers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sound = nn.Linear(BANDS, WIDTH)
        self.classes = nn.Linear(WIDTH, 4)
        self.words = nn.Embedding(256, WIDTH)
        self.pictures = nn.Linear(3, WIDTH)
        self.offsets = nn.Linear(2 * WIDTH, OFFSETS)


class TinyNetwork:
    sample_rate_hz = RATE_HZ

    def __init__(self, folder: Path) -> None:
        importlib.import_module(PACKAGE)
        self.layers = Layers()
        self.layers.load_state_dict(read_checkpoint(folder / "tiny.pt")["model"])

    @torch.inference_mode()
    def embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        spectrum = np.abs(np.fft.rfft(waveform, 2 * BANDS * 64))[: BANDS * 64].reshape(BANDS, 64).mean(axis=1)
        return self.layers.sound(torch.from_numpy(np.log1p(spectrum).astype(np.float32))).numpy()

    @torch.inference_mode()
    def describe(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        embedding = self.embed_sound(waveform)
        return embedding, self.layers.classes(torch.from_numpy(embedding)).numpy()

    @torch.inference_mode()
    def embed_text(self, caption: str) -> np.ndarray:
        return self.layers.words(torch.tensor(list(caption.encode()))).mean(dim=0).numpy()

    @torch.inference_mode()
    def embed_video(self, video: Path) -> np.ndarray:
        pictures = square_frames(video, side=16, duration_s=CLIP_S)
        return self.layers.pictures(torch.from_numpy(pictures).float().mean(dim=(0, 1, 2))).numpy()

    @torch.inference_mode()
    def offset_logits(self, video: Path, waveform: np.ndarray) -> np.ndarray:
        both = np.concatenate([self.embed_video(video), self.embed_sound(waveform)])
        return self.layers.offsets(torch.from_numpy(both))[None].numpy()


def write_tiny_network(folder: Path, packages: Path, *, on_import: str = "") -> None:
    """Write the package, that runs `on_import`, and the file of weights."""
    packages.mkdir(exist_ok=True)
    (packages / f"{PACKAGE}.py").write_text(on_import)
    importlib.invalidate_caches()
    torch.manual_seed(0)
    folder.mkdir(exist_ok=True)
    torch.save({"model": Layers().state_dict()}, folder / "tiny.pt")


def tiny(name: str) -> Adapter[TinyNetwork]:
    return Adapter(name, PACKAGE, f"pip install {PACKAGE}", ("tiny.pt",), TinyNetwork)


TINY = Adapters(
    sound=(tiny("panns"), tiny("passt")), text=(tiny("clap"),), video=(tiny("imagebind"),), sync=(tiny("desync"),)
)
