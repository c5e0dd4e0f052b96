"""Interfaces of third-party networks for metrics, and their adapters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import numpy as np

CLIP_S = 8.0
"""Seconds of each file that are evaluated, from its start, as in av-benchmark."""


class SoundNetwork(Protocol):
    """Embeds and classifies sounds: for Fréchet distance, KL and inception score."""

    sample_rate_hz: int

    def describe(self, waveform: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the embedding (D,) and the class logits (classes,) of a mono waveform (samples,)."""
        ...


class TextSoundNetwork(Protocol):
    """Embeds sounds and texts in one space."""

    sample_rate_hz: int

    def embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        """Return the embedding (D,) of a mono waveform (samples,)."""
        ...

    def embed_text(self, caption: str) -> np.ndarray:
        """Return the embedding (D,) of a caption."""
        ...


class VideoSoundNetwork(Protocol):
    """Embeds sounds and videos in one space."""

    sample_rate_hz: int

    def embed_sound(self, waveform: np.ndarray) -> np.ndarray:
        """Return the embedding (D,) of a mono waveform (samples,)."""
        ...

    def embed_video(self, video: Path) -> np.ndarray:
        """Return the embedding (D,) of a video file's pictures."""
        ...


class SyncNetwork(Protocol):
    """Estimates the offset between sound and picture."""

    sample_rate_hz: int

    def offset_logits(self, video: Path, waveform: np.ndarray) -> np.ndarray:
        """Return logits (sections, offsets) over the offsets of `formulas.OFFSETS_S`."""
        ...


Network = TypeVar("Network", covariant=True)


@dataclass(frozen=True)
class Adapter(Generic[Network]):
    """How to find and load a network.

    Attributes:
        name: suffix of the metrics' names, such as `panns` in `fd_panns`.
        package: module that must be importable; it is imported only if all files are present.
        install: installation command shown to the user.
        files: required files or folders in the weights folder.
        load: loads the network from that folder.
        unready: returns what else is missing, in a sentence, or None.
    """

    name: str
    package: str
    install: str
    files: tuple[str, ...]
    load: Callable[[Path], Network]
    unready: Callable[[], str | None] = lambda: None
