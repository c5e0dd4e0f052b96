"""Builds the parts of a worker process from the settings: variants, model cache, feature cache, media sandbox.

The order in which they open and close belongs to `workers.worker_process`.
"""

from __future__ import annotations

import functools
import logging
import math
import os
from collections.abc import Hashable
from pathlib import Path

import psutil
import torch

from jobs.settings import Settings
from jobs.storage.protocol import ObjectStore
from mmaudio_model.checkpoints.files import is_installed
from mmaudio_model.checkpoints.loading import SharedParts
from mmaudio_model.checkpoints.parts import PARTS, part_bytes, part_identity
from mmaudio_model.errors import MediaError, WeightsMissingError
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.pipeline import DTYPES, Pipeline
from mmaudio_model.variants import VARIANTS, get_variant
from workers.disk_full import DiskFullLog
from workers.engine.engine import LoadedModel
from workers.engine.model_cache import ModelCache
from workers.feature_cache.cache import FeatureCache
from workers.feature_cache.disk import DiskFeatureStore
from workers.media.sandbox import MediaSandbox, SandboxBrokenError, SandboxLimits

log = logging.getLogger(__name__)

# Share of a device's memory that loaded variants may take when no setting limits them.
MODEL_MEMORY_SHARE = 0.7


def variants_to_serve(settings: Settings) -> list[str]:
    """Return the variants that a worker serves: those of the settings, else all that are installed.

    Raises:
        WeightsMissingError: a variant of the settings is not installed.
    """
    weights_dir = settings.weights_dir
    if not settings.variants:
        return [name for name, variant in VARIANTS.items() if is_installed(variant, weights_dir)]
    for name in settings.variants:
        if not is_installed(get_variant(name), weights_dir):
            raise WeightsMissingError(
                f"MMAUDIO_VARIANTS names {name}, whose weights are missing in {weights_dir}; "
                f"run `mmaudio weights fetch {name}`."
            )
    return list(settings.variants)


def resolved_precision(settings: Settings, torch_device: str) -> str:
    """Return the precision of the settings, with `auto` resolved for a device."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if torch_device.startswith("cuda") else "fp32"


def make_model_cache(settings: Settings, *, torch_device: str, precision: str) -> ModelCache[LoadedModel]:
    """Return the empty model cache of one device."""
    shared: SharedParts = SharedParts()

    def load(name: str) -> LoadedModel:
        return Pipeline.load(
            get_variant(name),
            weights_dir=settings.weights_dir,
            device=torch_device,
            precision=precision,
            shared=shared,
        )

    @functools.cache
    def sizes(name: str) -> dict[Hashable, int]:
        variant, width = get_variant(name), DTYPES[precision].itemsize
        return {part_identity(variant, part): part_bytes(variant, part, width) for part in PARTS}

    return ModelCache(load, sizes=sizes, budget_bytes=settings.model_memory_bytes or _default_budget(torch_device))


def _default_budget(torch_device: str) -> int:
    """Return a budget that leaves memory for batches, and on a CPU for other processes."""
    if torch_device.startswith("cuda"):
        total = int(torch.cuda.get_device_properties(0).total_memory)
    else:
        total = int(psutil.virtual_memory().total)
    return int(total * MODEL_MEMORY_SHARE)


def make_feature_cache(settings: Settings, store: ObjectStore, disk_full: DiskFullLog) -> FeatureCache:
    """Return the feature cache: local, and shared through the store unless `feature_ttl_s` is 0."""
    folder = settings.feature_cache_dir or settings.data_dir / "features"
    return FeatureCache(
        DiskFeatureStore(
            folder,
            max_bytes=settings.feature_cache_bytes,
            disk_full=disk_full,
            reserve_bytes=settings.disk_reserve_bytes,
        ),
        store if settings.feature_ttl_s else None,
        ttl_s=settings.feature_ttl_s or 1,
        disk_full=disk_full,
    )


def make_sandbox(settings: Settings, scratch: Path) -> MediaSandbox:
    """Return the media sandbox, with its fork server started."""
    return MediaSandbox(
        MediaLimits(
            max_pixels=settings.max_pixels,
            max_image_pixels=settings.max_image_pixels,
            max_decoded_s=settings.max_source_duration_s,
        ),
        SandboxLimits(
            memory_bytes=settings.decode_memory_bytes,
            wall_s=settings.decode_timeout_s,
            max_wall_s=settings.decode_timeout_max_s,
            # Decoders and encoders have a thread for each core.
            cpu_s=math.ceil(settings.decode_timeout_s * max(2, os.cpu_count() or 1)),
        ),
        scratch,
        prestart=True,
    )


def missing_layers(sandbox: MediaSandbox) -> list[str] | None:
    """Return which layers of confinement this machine refuses to media processes; None: none could be started."""
    try:
        return sandbox.missing_layers()
    except (SandboxBrokenError, MediaError, OSError) as exc:
        log.warning("could not find out what media processes do without on this machine: %s", exc)
        return None
