"""Whole generations on synthetic weights, compared stage by stage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache

import torch
from torch.nn.functional import normalize

from mmaudio_model.checkpoints.loading import Networks
from mmaudio_model.intermediates import IntermediateRecorder
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.reference import read_image_exactly, read_video_frames_exactly
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from mmaudio_model.variants import get_variant
from tests.parity import networks
from tests.parity.vectors import DATA, Case, case

# About ten times the published program's own rounding noise.
TOLERANCES = {
    "clip_features": 2e-6,
    "sync_features": 2e-5,
    "text_features": 2e-6,
    "negative_text_features": 2e-6,
    "x0": 0.0,
    "x1": 3e-4,
    "x1_unnormalized": 3e-4,
    "mel": 2e-3,
    "audio": 2e-3,
}
OUR_NAMES = {"x0": "noise", "x1": "latent", "x1_unnormalized": "latent_denormalised", "audio": "waveform"}


def assert_published(name: str) -> None:
    """Run a recorded request and compare what every stage gave."""
    recorded = case(name)
    recorder = IntermediateRecorder()
    pipeline = _pipeline(recorded.record["variant"])
    with _some_frames_seen(pipeline, recorded) if "video" in recorded.options else nullcontext():
        (waveform,) = pipeline.generate([_request(recorded)], on_intermediate=recorder)
    arrays = recorder.arrays()

    assert waveform is not None
    compared = TOLERANCES.keys() & recorded.record["outputs"].keys()
    if recorded.options["cfg"] < 1:  # the published program encodes words that nobody is pushed away from
        compared -= {"negative_text_features"}
    assert compared >= {"text_features", "x0", "x1", "mel", "audio"}
    for output in compared:
        found = torch.from_numpy(arrays[OUR_NAMES.get(output, output)])
        assert recorded.difference(output, found) <= TOLERANCES[output], (name, output)


@contextmanager
def _some_frames_seen(pipeline: Pipeline, recorded: Case) -> Iterator[None]:
    """Let CLIP see one of a video's frames: each takes ten seconds. The other features are those on record."""
    if "clip_features" in recorded.record["outputs"]:
        features = torch.from_numpy(recorded.expected("clip_features"))[0]
        seen = {"16k": len(features) - 1, "44k": len(features) // 2}[get_variant(recorded.record["variant"]).mode.name]
        tower = PartlyRecordedTower(shared("clip_image"), features, seen=seen)
        pipeline._networks.clip_image = tower  # type: ignore[assignment]
    yield
    vars(pipeline._networks).pop("clip_image", None)


class PartlyRecordedTower:
    """CLIP's image tower for one frame, the recorded features for the others."""

    def __init__(self, tower: torch.nn.Module, features: torch.Tensor, *, seen: int) -> None:
        self.proj, self._tower, self._features, self._seen = tower.proj, tower, features, seen

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        features = self._features.clone()
        features[self._seen] = normalize(self._tower(images[self._seen, None]), dim=-1)[0]
        return features


def _request(recorded: Case) -> GenerationRequest:
    options = recorded.options
    variant = get_variant(recorded.record["variant"])
    video = image = None
    duration_s = float(options["duration"])
    if "video" in options:
        with (DATA / options["video"]).open("rb") as file:
            video = read_video_frames_exactly(
                file,
                duration_s=duration_s,
                clip_size=variant.clip.frame_size,
                sync_size=variant.sync.frame_size,
                limits=MediaLimits(),
            ).video
        duration_s = video.duration_s
    if "image" in options:
        with (DATA / options["image"]).open("rb") as file:
            image = read_image_exactly(file, clip_size=variant.clip.frame_size, limits=MediaLimits())
    assert duration_s == options["duration_used"]
    return GenerationRequest(
        duration_s=duration_s,
        seed=options["seed"],
        prompt=options["prompt"],
        negative_prompt=None if options.get("no_negative") else options.get("negative_prompt", ""),
        num_steps=options["steps"],
        cfg_strength=options["cfg"],
        mask_away_clip=options.get("mask_away_clip", False),
        video=video,
        image=image,
        reference_exact=True,
    )


@cache
def _pipeline(variant_name: str) -> Pipeline:
    variant = get_variant(variant_name)

    def load(part: str) -> torch.nn.Module:
        with torch.inference_mode(False):
            if part == "flow":
                return networks.small_flow(variant_name)
            if part in {"vae", "vocoder"}:
                return getattr(networks, part)(variant.mode)
            return shared(part)

    return Pipeline(variant, Networks(load), "cpu", torch.float32)


@cache
def shared(part: str) -> torch.nn.Module:
    """Return a part that every variant uses."""
    return {"clip_text": networks.clip_text, "clip_image": networks.clip_image, "sync": networks.synchformer}[part]()


def forget() -> None:
    """Let go of several gigabytes of networks."""
    _pipeline.cache_clear()
    shared.cache_clear()
