"""Feature-cache entries for one job's inputs (video or image, prompts)."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jobs.request import JobRequest
from mmaudio_model.features import TEXT_PARTS, VISUAL_PARTS, Features, encoder_revision
from mmaudio_model.variants import Variant, get_variant
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.entry import Entry, entry_key

READING_VERSION = 2
"""Part of the key of what was seen: raised when a file is read to other pixels, or its facts have another form."""

Revision = Callable[[str, tuple[str, ...]], str]
"""Returns the encoder revision of a variant's parts."""


def revisions(*, weights_dir: Path | None, device: str, precision: str) -> Revision:
    """Return a function that computes a variant's encoder revision and remembers it."""

    @functools.cache
    def revision(name: str, parts: tuple[str, ...]) -> str:
        return encoder_revision(get_variant(name), parts, weights_dir=weights_dir, device=device, precision=precision)

    return revision


@dataclass
class JobFeatures:
    """The entries of one job's inputs. `cached` and `store_encoded` run on the device's thread, and only copy."""

    prompt: Entry
    negative: Entry | None
    visual: Entry | None

    @property
    def visual_cached(self) -> bool:
        """Whether the visual features are cached, so that no frame has to be decoded."""
        return self.visual is not None and bool(self.visual.tensors)

    def cached(self) -> Features:
        """Return the features that need not be encoded."""
        visual = self.visual.tensors if self.visual is not None else {}
        negative = self.negative.tensors if self.negative is not None else {}
        return Features(visual.get("clip"), visual.get("sync"), self.prompt.tensors.get("text"), negative.get("text"))

    def store_encoded(self, features: Features) -> None:
        """Set the features that the device has encoded."""
        self.prompt.set_tensors(text=features.text)
        if self.negative is not None:
            self.negative.set_tensors(text=features.negative_text)
        if self.visual is not None:
            self.visual.set_tensors(clip=features.clip, sync=features.sync)

    def write_to(self, cache: FeatureCache) -> None:
        """Store the entries in the cache."""
        for entry in (self.prompt, self.negative, self.visual):
            if entry is not None:
                cache.store(entry)


def find_job_features(
    cache: FeatureCache,
    revision: Revision,
    variant: Variant,
    request: JobRequest,
    *,
    tenant: str,
    source_sha256: str | None,
) -> JobFeatures:
    """Return the entries of a job's inputs, filled with what is cached.

    Tenants share nothing: the time that a job takes would reveal that another tenant has used the same video.

    Raises:
        WeightsMissingError: the variant's files are missing.
    """
    text_revision = revision(variant.name, TEXT_PARTS)

    def text_key(text: str) -> str:
        return entry_key(kind="text", tenant=tenant, revision=text_revision, text=text)

    keys = [text_key(request.prompt), text_key(request.negative_prompt)]
    if source_sha256 is not None:
        image = request.image is not None
        keys.append(
            entry_key(
                kind="image" if image else "video",
                tenant=tenant,
                revision=revision(variant.name, VISUAL_PARTS),
                reading=READING_VERSION,
                source=source_sha256,
                start_s=request.start_s,
                # The features of an image do not depend on the duration of the sound; those of a video do.
                duration_s=None if image else request.duration_s or variant.max_duration_s,
                masked=request.mask_away_clip,
            )
        )
    prompt, negative, *visual = cache.find(keys)
    return JobFeatures(prompt, negative if request.cfg_strength >= 1 else None, visual[0] if visual else None)
