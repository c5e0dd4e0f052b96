"""Evaluation of a variant on held-out scenes of the procedural world: `mmaudio eval world`.

A sound is generated for each scene from the video alone, from text alone, and with a negative prompt. "Shuffled" needs
no generation: it compares the sound of another scene of the same class with this scene's events.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mmaudio_model.evaluation.classifier import SoundClassifier, class_probabilities
from mmaudio_model.evaluation.frechet import log_mel_frechet_distance
from mmaudio_model.evaluation.matching import Matches, match_onsets, pool
from mmaudio_model.evaluation.onsets import detect_onsets
from mmaudio_model.evaluation.scenes import render_frames, true_onsets_s, true_sound
from mmaudio_model.evaluation.sounds import JUDGED_RATE_HZ, at_judged_rate, log_mels
from mmaudio_model.media.frames import VideoFrames
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from mmaudio_model.procedural_world.scene import CLASSES, IMPACT_CLASSES, Scene

PARTS = ("video", "shuffled", "text", "negative", "speed")
SPEED_STEPS = 25
SPEED_RUNS = 3

OnProgress = Callable[[str, int, int], None]
"""Called with (what is being generated, done, total)."""


@dataclass(frozen=True)
class GenerationOptions:
    """Options of the generation."""

    num_steps: int = 25
    cfg_strength: float = 4.5
    batch_size: int = 4


@dataclass(frozen=True)
class SceneMetrics:
    """Computes class and onset metrics, for generated and for true sounds alike."""

    classifier: SoundClassifier

    def classes(self, scenes: Sequence[Scene], sounds: Sequence[np.ndarray]) -> dict[str, Any]:
        """Return the share of sounds classified as their scene's class, its mean probability, and the confusions."""
        own = own_class_numbers(scenes)
        probabilities = class_probabilities(self.classifier, sounds)
        right = probabilities.argmax(axis=1) == own
        return {
            "class_accuracy": float(right.mean()),
            "class_probability": float(probabilities[np.arange(len(own)), own].mean()),
            "class_accuracy_by_class": _by_class(scenes, right),
            "taken_for": _confusions(scenes, probabilities),
        }

    def onsets(self, scenes: Sequence[Scene], sounds: Sequence[np.ndarray]) -> dict[str, Any]:
        """Match each sound's onsets with its scene's events; only scenes of impact classes count."""
        matches: defaultdict[str, list[Matches]] = defaultdict(list)
        for scene, sound in zip(scenes, sounds, strict=True):
            if scene.class_name in IMPACT_CLASSES:
                found = detect_onsets(sound, JUDGED_RATE_HZ)
                matches[scene.class_name].append(match_onsets(true_onsets_s(scene), found))
        every = [one for of_class in matches.values() for one in of_class]
        if not every:
            return {}
        by_class = {name: pool(of_class).f1 for name, of_class in matches.items()}
        return {"onsets": pool(every).figures(), "onset_f1_by_class": by_class}


def own_class_numbers(scenes: Iterable[Scene]) -> np.ndarray:
    return np.array([CLASSES.index(scene.class_name) for scene in scenes], dtype=np.int64)


def shuffled_order(scenes: Sequence[Scene]) -> list[int]:
    """Return for each scene the index of the next scene of its class, cyclically.

    A scene that is the only one of its class gets its own index, which callers must skip.
    """
    places: defaultdict[str, list[int]] = defaultdict(list)
    for place, scene in enumerate(scenes):
        places[scene.class_name].append(place)
    other = list(range(len(scenes)))
    for of_class in places.values():
        for here, there in zip(of_class, of_class[1:] + of_class[:1], strict=True):
            other[here] = there
    return other


def evaluate_world(
    pipeline: Pipeline,
    scenes: Sequence[Scene],
    metrics: SceneMetrics,
    *,
    parts: Iterable[str] = PARTS,
    generation_options: GenerationOptions = GenerationOptions(),
    on_progress: OnProgress = lambda _name, _done, _count: None,
) -> dict[str, Any]:
    """Return the report: nested metrics, ready for JSON. `true` has the metrics of the true sounds."""
    wanted = set(parts)
    truth = [true_sound(scene) for scene in scenes]
    true_mels = log_mels(truth)

    def sound_metrics(sounds: Sequence[np.ndarray]) -> dict[str, Any]:
        distance = log_mel_frechet_distance(log_mels(sounds), true_mels)
        return {"log_mel_frechet_distance": distance, **metrics.classes(scenes, sounds)}

    half = len(scenes) // 2
    report: dict[str, Any] = {"true": {**metrics.classes(scenes, truth), **metrics.onsets(scenes, truth)}}
    # The distance between two sets of true sounds: a lower bound for any model.
    report["true"]["log_mel_frechet_distance"] = log_mel_frechet_distance(true_mels[:half], true_mels[half:])
    videos: list[VideoFrames] = []
    if wanted & {"video", "shuffled", "negative", "speed"}:
        for scene in scenes:
            videos.append(render_frames(scene, pipeline.variant))
            on_progress("frames", len(videos), len(scenes))

    def generate(name: str, **fields: Sequence[Any]) -> list[np.ndarray]:
        requests = [
            GenerationRequest(
                duration_s=scene.duration_s,
                seed=place,
                num_steps=generation_options.num_steps,
                cfg_strength=generation_options.cfg_strength,
                **{field: values[place] for field, values in fields.items()},
            )
            for place, scene in enumerate(scenes)
        ]
        return generate_sounds(
            pipeline, requests, generation_options.batch_size, lambda done: on_progress(name, done, len(requests))
        )

    if wanted & {"video", "shuffled", "negative"}:
        from_video = generate("video", video=videos)
        if "video" in wanted:
            report["video"] = {**sound_metrics(from_video), **metrics.onsets(scenes, from_video)}
        if "shuffled" in wanted:
            order = shuffled_order(scenes)
            pairs = [
                (scene, from_video[other])
                for place, (scene, other) in enumerate(zip(scenes, order, strict=True))
                if other != place
            ]
            report["shuffled"] = metrics.onsets([scene for scene, _ in pairs], [sound for _, sound in pairs])
        if "negative" in wanted:
            without = generate("negative", video=videos, negative_prompt=[scene.captions[0] for scene in scenes])
            report["negative"] = _negative_prompt(metrics.classifier, scenes, from_video, without)
    if "text" in wanted:
        report["text"] = sound_metrics(generate("text", prompt=[scene.captions[0] for scene in scenes]))
    if "speed" in wanted:
        report["speed"] = _speed(pipeline, scenes[0], videos[0], generation_options.cfg_strength, on_progress)
    return report


def generate_sounds(
    pipeline: Pipeline, requests: Sequence[GenerationRequest], batch_size: int, on_done: Callable[[int], None]
) -> list[np.ndarray]:
    """Return each request's sound at JUDGED_RATE_HZ; all requests must have one batch key."""
    sounds: list[np.ndarray] = []
    for start in range(0, len(requests), batch_size):
        for waveform in pipeline.generate(requests[start : start + batch_size]):
            assert waveform is not None, "no row was dropped"
            sounds.append(at_judged_rate(waveform, pipeline.variant.sample_rate_hz))
        on_done(len(sounds))
    return sounds


def _negative_prompt(
    classifier: SoundClassifier,
    scenes: Sequence[Scene],
    from_video: Sequence[np.ndarray],
    without: Sequence[np.ndarray],
) -> dict[str, Any]:
    """Return the probability of each scene's class without and with its caption as negative prompt."""
    rows, own = np.arange(len(scenes)), own_class_numbers(scenes)
    before = class_probabilities(classifier, from_video)[rows, own]
    after = class_probabilities(classifier, without)[rows, own]
    return {
        "class_probability_without": float(before.mean()),
        "class_probability_with": float(after.mean()),
        "share_lowered": float((after < before).mean()),
        "class_probability_without_by_class": _by_class(scenes, before),
        "class_probability_with_by_class": _by_class(scenes, after),
    }


def _speed(
    pipeline: Pipeline, scene: Scene, video: VideoFrames, cfg_strength: float, on_progress: OnProgress
) -> dict[str, Any]:
    """Measure the time for one clip alone, from frames in memory to a waveform."""
    request = GenerationRequest(
        duration_s=scene.duration_s, seed=0, num_steps=SPEED_STEPS, cfg_strength=cfg_strength, video=video
    )
    seconds = []
    for run in range(SPEED_RUNS):
        begin = time.perf_counter()
        pipeline.generate([request])
        seconds.append(time.perf_counter() - begin)
        on_progress("speed", run + 1, SPEED_RUNS)
    return {
        "clip_s": scene.duration_s,
        "num_steps": SPEED_STEPS,
        "median_s": statistics.median(seconds),
        "longest_s": max(seconds),
    }


def _by_class(scenes: Sequence[Scene], values: np.ndarray) -> dict[str, float]:
    names = np.array([scene.class_name for scene in scenes])
    return {name: float(values[names == name].mean()) for name in CLASSES if (names == name).any()}


def _confusions(scenes: Sequence[Scene], probabilities: np.ndarray) -> dict[str, dict[str, int]]:
    """Return for each true class the counts of predicted classes."""
    counts: dict[str, dict[str, int]] = {}
    for scene, number in zip(scenes, probabilities.argmax(axis=1), strict=True):
        row = counts.setdefault(scene.class_name, {})
        row[CLASSES[number]] = row.get(CLASSES[number], 0) + 1
    return counts
