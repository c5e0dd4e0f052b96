"""What one job shows and says, as entries: which they are, and how the device's results get into them."""

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

Revision = Callable[[str, tuple[str, ...]], str]


def revisions(*, weights_dir: Path | None, device: str, precision: str) -> Revision:
    """Return what says a variant's encoder revision, once worked out and then known."""

    @functools.cache
    def revision(name: str, parts: tuple[str, ...]) -> str:
        return encoder_revision(get_variant(name), parts, weights_dir=weights_dir, device=device, precision=precision)

    return revision


@dataclass
class JobFeatures:
    """The entries of one job's input. `known` and `learned` are called on the device's thread, and only copy."""

    prompt: Entry
    negative: Entry | None
    visual: Entry | None

    @property
    def seen(self) -> bool:
        """Say whether no frame has to be decoded."""
        return self.visual is not None and bool(self.visual.tensors)

    def known(self) -> Features:
        visual = self.visual.tensors if self.visual is not None else {}
        negative = self.negative.tensors if self.negative is not None else {}
        return Features(visual.get("clip"), visual.get("sync"), self.prompt.tensors.get("text"), negative.get("text"))

    def learned(self, features: Features) -> None:
        self.prompt.learn(text=features.text)
        if self.negative is not None:
            self.negative.learn(text=features.negative_text)
        if self.visual is not None:
            self.visual.learn(clip=features.clip, sync=features.sync)

    def keep(self, cache: FeatureCache) -> None:
        for entry in (self.prompt, self.negative, self.visual):
            if entry is not None:
                cache.keep(entry)


def look_up_features(
    cache: FeatureCache,
    revision: Revision,
    variant: Variant,
    request: JobRequest,
    *,
    tenant: str,
    source_sha256: str | None,
) -> JobFeatures:
    """Find what is known of a job's input. Tenants share nothing: how long a job takes would tell of another's video.

    Raises:
        WeightsMissingError: the variant's files are gone.
    """
    text_revision = revision(variant.name, TEXT_PARTS)

    def text(words: str) -> str:
        return entry_key(kind="text", tenant=tenant, revision=text_revision, text=words)

    keys = [text(request.prompt), text(request.negative_prompt)]
    if source_sha256 is not None:
        image = request.image is not None
        keys.append(
            entry_key(
                kind="image" if image else "video",
                tenant=tenant,
                revision=revision(variant.name, VISUAL_PARTS),
                source=source_sha256,
                start_s=request.start_s,
                # A picture's features do not depend on how long it is looked at; a video's stretch ends there.
                duration_s=None if image else request.duration_s or variant.max_duration_s,
                masked=request.mask_away_clip,
            )
        )
    prompt, negative, *visual = cache.find_object(keys)
    return JobFeatures(prompt, negative if request.cfg_strength >= 1 else None, visual[0] if visual else None)
