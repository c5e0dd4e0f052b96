"""Generated files against reference files of the same names: `mmaudio eval folders`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.evaluation.classifier import SoundClassifier, class_probabilities
from mmaudio_model.evaluation.divergence import inception_score, kl_divergence
from mmaudio_model.evaluation.frechet import log_mel_frechet_distance
from mmaudio_model.evaluation.matching import match_onsets, pool
from mmaudio_model.evaluation.onsets import detect_onsets
from mmaudio_model.evaluation.sounds import JUDGED_RATE_HZ, log_mels, read_sound
from mmaudio_model.procedural_world.scene import CLASSES

SUFFIXES = frozenset({".flac", ".m4a", ".mkv", ".mov", ".mp3", ".mp4", ".ogg", ".opus", ".wav", ".webm"})


@dataclass(frozen=True)
class Pairs:
    """Files of both folders paired by stem, and the unpaired ones."""

    both: dict[str, tuple[Path, Path]]
    only_generated: tuple[str, ...]
    only_reference: tuple[str, ...]


def pair_files(generated: Path, reference: Path) -> Pairs:
    """Pair sound and video files by their names without extension.

    Raises:
        RequestInvalidError: two files of a folder share a stem, or there is no pair.
        OSError: a folder cannot be read.
    """
    ours, theirs = by_stem(generated), by_stem(reference)
    both = {stem: (ours[stem], theirs[stem]) for stem in sorted(ours.keys() & theirs.keys())}
    if not both:
        raise RequestInvalidError(
            f"No file of {generated} ({len(ours)} with sound) has the name of one of {reference} ({len(theirs)})."
        )
    return Pairs(both, tuple(sorted(ours.keys() - theirs.keys())), tuple(sorted(theirs.keys() - ours.keys())))


def evaluate_folders(
    pairs: Pairs,
    classifier: SoundClassifier,
    *,
    labels: Mapping[str, str] | None = None,
    on_progress: Callable[[str, int, int], None] = lambda _name, _done, _count: None,
) -> dict[str, Any]:
    """Return the report: nested metrics, ready for JSON.

    Reference onsets are those detected in the reference sound. Classes are those of the procedural world and mean
    little for other sounds.

    Args:
        labels: class by stem; class accuracy covers the pairs that have one.

    Raises:
        RequestInvalidError: a label is not a class of the procedural world.
        MediaInvalidError: a file has no readable sound.
    """
    labels = {stem: label for stem, label in (labels or {}).items() if stem in pairs.both}
    for stem, label in labels.items():
        if label not in CLASSES:
            raise RequestInvalidError(f"Got class {label!r} for {stem}; there are {', '.join(CLASSES)}.")
    generated, reference = [], []
    for ours, theirs in pairs.both.values():
        generated.append(read_sound(ours))
        reference.append(read_sound(theirs))
        on_progress("read", len(generated), len(pairs.both))
    matches = pool(
        match_onsets(detect_onsets(theirs, JUDGED_RATE_HZ), detect_onsets(ours, JUDGED_RATE_HZ))
        for ours, theirs in zip(generated, reference, strict=True)
    )
    probabilities = class_probabilities(classifier, generated)
    report: dict[str, Any] = {
        "pairs": len(pairs.both),
        "only_generated": list(pairs.only_generated),
        "only_reference": list(pairs.only_reference),
        "onsets": matches.figures(),
        "log_mel_frechet_distance": log_mel_frechet_distance(log_mels(generated), log_mels(reference)),
        "classifier_kl": kl_divergence(class_probabilities(classifier, reference), probabilities),
        "classifier_inception_score": inception_score(probabilities),
    }
    if labels:
        named = dict(zip(pairs.both, probabilities, strict=True))
        right = [CLASSES[int(np.argmax(named[stem]))] == label for stem, label in labels.items()]
        report |= {"labelled": len(labels), "class_accuracy": float(np.mean(right))}
    return report


def by_stem(folder: Path) -> dict[str, Path]:
    """Return the sound and video files of a folder by their names without extension.

    Raises:
        RequestInvalidError: two share a stem.
        OSError: the folder cannot be read.
    """
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in SUFFIXES or path.name.startswith("."):
            continue
        if path.stem in found:
            raise RequestInvalidError(f"{found[path.stem]} and {path} have the same name; keep one of them.")
        found[path.stem] = path
    return found
