"""Metrics of generated files against reference files; unavailable networks are skipped with the reason."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mmaudio_model.errors import ModelError, RequestInvalidError
from mmaudio_model.evaluation.pretrained_metrics.clap import CLAP
from mmaudio_model.evaluation.pretrained_metrics.desync import DESYNC
from mmaudio_model.evaluation.pretrained_metrics.formulas import (
    desync_s,
    frechet_distance,
    inception_score,
    mean_cosine,
    paired_kl,
)
from mmaudio_model.evaluation.pretrained_metrics.imagebind import IMAGEBIND
from mmaudio_model.evaluation.pretrained_metrics.loading import load, missing_reason
from mmaudio_model.evaluation.pretrained_metrics.panns import PANNS
from mmaudio_model.evaluation.pretrained_metrics.passt import PASST
from mmaudio_model.evaluation.pretrained_metrics.protocol import (
    CLIP_S,
    Adapter,
    Network,
    SoundNetwork,
    SyncNetwork,
    TextSoundNetwork,
    VideoSoundNetwork,
)
from mmaudio_model.evaluation.sounds import read_sound

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Adapters:
    """The networks by kind of input; tests substitute small ones."""

    sound: tuple[Adapter[SoundNetwork], ...] = (PANNS, PASST)
    text: tuple[Adapter[TextSoundNetwork], ...] = (CLAP,)
    video: tuple[Adapter[VideoSoundNetwork], ...] = (IMAGEBIND,)
    sync: tuple[Adapter[SyncNetwork], ...] = (DESYNC,)


PUBLISHED = Adapters()


@dataclass(frozen=True)
class Material:
    """The files to evaluate.

    Attributes:
        pairs: generated and reference file by stem.
        captions, videos: by stem; a metric that needs them covers the stems that have one.
    """

    pairs: Mapping[str, tuple[Path, Path]]
    captions: Mapping[str, str] = field(default_factory=dict)
    videos: Mapping[str, Path] = field(default_factory=dict)


def pretrained_metrics(
    material: Material,
    weights: Path,
    *,
    adapters: Adapters = PUBLISHED,
    on_progress: Progress = lambda _name, _done, _count: None,
) -> dict[str, Any]:
    """Return `metrics` by name, `clip_counts` (number of clips), and `skipped` and `errors` with a sentence each.

    A network that is missing, damaged or fails on a file affects only its own metrics.

    Args:
        weights: folder with the networks' files.
    """
    report: dict[str, Any] = {"metrics": {}, "clip_counts": {}, "skipped": {}, "errors": {}}
    weights = weights.resolve()
    captioned = [stem for stem in material.pairs if stem in material.captions]
    filmed = [stem for stem in material.pairs if stem in material.videos]
    no_words = "No clip has a caption; give them with --captions."
    no_video = "No clip has a video of its name; give their folder with --videos."

    def add_metrics(
        adapter: Adapter[Network],
        names: tuple[str, ...],
        stems: list[str],
        without: str,
        measure: Callable[[Network, Progress], tuple[float, ...]],
    ) -> None:
        reason = missing_reason(adapter, weights) or (None if stems else without)
        if reason is not None:
            report["skipped"] |= dict.fromkeys(names, reason)
            return
        try:
            values = measure(load(adapter, weights), on_progress)
        except (ModelError, OSError, RuntimeError, ValueError, TypeError, LookupError, AttributeError) as exc:
            message = str(exc) if isinstance(exc, ModelError | OSError) else f"{type(exc).__name__}: {exc}"
            report["errors"] |= dict.fromkeys(names, message)
            return
        report["metrics"] |= dict(zip(names, values, strict=True))
        report["clip_counts"] |= dict.fromkeys(names, len(stems))

    for sound in adapters.sound:
        names = tuple(f"{measure}_{sound.name}" for measure in ("fd", "kl", "is"))
        add_metrics(sound, names, list(material.pairs), "There is no pair.", _distances(material))
    for text in adapters.text:
        add_metrics(text, (text.name,), captioned, no_words, _words(material, captioned))
    for video in adapters.video:
        add_metrics(video, (video.name,), filmed, no_video, _pictures(material, filmed))
    for sync in adapters.sync:
        add_metrics(sync, (sync.name,), filmed, no_video, _offsets(material, filmed))
    return report


def _distances(material: Material) -> Callable[[SoundNetwork, Progress], tuple[float, ...]]:
    def measure(network: SoundNetwork, say: Progress) -> tuple[float, ...]:
        generated, reference = [], []
        for ours, theirs in material.pairs.values():
            generated.append(network.describe(_centred(ours, network.sample_rate_hz)))
            reference.append(network.describe(_centred(theirs, network.sample_rate_hz)))
            say(type(network).__name__, len(generated), len(material.pairs))
        (embedded, logits), (true_embedded, true_logits) = _columns(generated), _columns(reference)
        return (
            frechet_distance(embedded, true_embedded),
            paired_kl(true_logits, logits),
            inception_score(logits),
        )

    return measure


def _words(material: Material, stems: list[str]) -> Callable[[TextSoundNetwork, Progress], tuple[float, ...]]:
    def measure(network: TextSoundNetwork, say: Progress) -> tuple[float, ...]:
        sounds, captions = [], []
        for stem in stems:
            sounds.append(network.embed_sound(_centred(material.pairs[stem][0], network.sample_rate_hz)))
            captions.append(network.embed_text(material.captions[stem]))
            say(type(network).__name__, len(sounds), len(stems))
        return (mean_cosine(np.stack(captions), np.stack(sounds)),)

    return measure


def _pictures(material: Material, stems: list[str]) -> Callable[[VideoSoundNetwork, Progress], tuple[float, ...]]:
    def measure(network: VideoSoundNetwork, say: Progress) -> tuple[float, ...]:
        sounds, videos = [], []
        for stem in stems:
            sounds.append(network.embed_sound(_sound(material.pairs[stem][0], network.sample_rate_hz)))
            videos.append(network.embed_video(material.videos[stem]))
            say(type(network).__name__, len(sounds), len(stems))
        return (mean_cosine(np.stack(videos), np.stack(sounds)),)

    return measure


def _offsets(material: Material, stems: list[str]) -> Callable[[SyncNetwork, Progress], tuple[float, ...]]:
    def measure(network: SyncNetwork, say: Progress) -> tuple[float, ...]:
        logits = []
        for stem in stems:
            waveform = _sound(material.pairs[stem][0], network.sample_rate_hz)
            logits.append(network.offset_logits(material.videos[stem], waveform))
            say(type(network).__name__, len(logits), len(stems))
        return (desync_s(np.concatenate(logits)),)

    return measure


def _sound(path: Path, rate_hz: int) -> np.ndarray:
    return read_sound(path, rate_hz)[: round(CLIP_S * rate_hz)]


def _centred(path: Path, rate_hz: int) -> np.ndarray:
    """Return the sound minus its mean, as av-benchmark does for metrics on sound alone."""
    waveform = _sound(path, rate_hz)
    values: np.ndarray = waveform - waveform.mean()
    return values


def _columns(rows: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    if not rows:
        raise RequestInvalidError("There is no pair to judge.")
    return np.stack([embedding for embedding, _ in rows]), np.stack([logits for _, logits in rows])
