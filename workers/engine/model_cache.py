"""The variants in a device's memory: as many as the memory budget allows; the least recently used is evicted first.

Networks that variants share (CLIP and Synchformer of all published ones) are in memory once. Used on the engine's
thread only; other threads may read `loaded`.
"""

from __future__ import annotations

import gc
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Generic, TypeVar

import torch

log = logging.getLogger(__name__)

Model = TypeVar("Model")


class ModelCache(Generic[Model]):
    """Loaded variants.

    Args:
        load: loads a variant.
        sizes: returns the parts of a variant and their bytes; parts with the same key are shared.
        budget_bytes: limit of all parts in memory together; None: no limit. A variant that is larger by itself is
            loaded alone, with a warning.
    """

    def __init__(
        self,
        load: Callable[[str], Model],
        *,
        sizes: Callable[[str], Mapping[Hashable, int]] = lambda variant: {variant: 0},
        budget_bytes: int | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._load, self._sizes, self._budget_bytes, self._monotonic = load, sizes, budget_bytes, monotonic
        self._models: OrderedDict[str, Model] = OrderedDict()
        self._load_s: dict[str, float] = {}

    @property
    def loaded(self) -> list[str]:
        """Variants in memory, least recently used first."""
        return list(self._models)

    def load_s(self, variant: str) -> float | None:
        """Return how long loading a variant took the last time; None if it was never loaded."""
        return self._load_s.get(variant)

    def get(self, variant: str) -> Model:
        """Return a variant; load it if it is not in memory.

        Raises:
            ModelError: it cannot be loaded; other variants may have been evicted for it.
        """
        model = self._models.get(variant)
        if model is None:
            self._evict_for(variant)
            log.info("loading %s", variant)
            began = self._monotonic()
            model = self._models[variant] = self._load(variant)
            self._load_s[variant] = self._monotonic() - began
        self._models.move_to_end(variant)
        return model

    def evicts(self, variant: str) -> bool:
        """Return whether loading a variant would evict another one."""
        return variant not in self._models and bool(self._models) and self._bytes(variant) > self._budget()

    def _budget(self) -> float:
        return float("inf") if self._budget_bytes is None else self._budget_bytes

    def _bytes(self, *more: str) -> int:
        parts: dict[Hashable, int] = {}
        for variant in {*self._models, *more}:
            parts.update(self._sizes(variant))
        return sum(parts.values())

    def _evict_for(self, variant: str) -> None:
        while self._models and self._bytes(variant) > self._budget():
            oldest, _ = self._models.popitem(last=False)
            log.info("evicting %s to load %s", oldest, variant)
            gc.collect()
            torch.cuda.empty_cache()
        if self._bytes(variant) > self._budget():
            log.warning(
                "%s needs %d bytes by itself, more than the budget of %d",
                variant,
                self._bytes(variant),
                self._budget(),
            )
