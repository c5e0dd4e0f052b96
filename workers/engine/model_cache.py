"""The variants that a device holds: as many as a memory budget has room for; the least recently used goes first.

Networks that variants have in common (CLIP and Synchformer of all published ones) are in memory once. Used on the
device's thread only; other threads may read `loaded`.
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
        sizes: the parts of a variant and their bytes; parts of the same key are one and the same.
        budget_bytes: what all parts in memory may have together; None: no bound. A variant that is larger alone is
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
        """Return how long loading a variant took the last time; None: it never was."""
        return self._load_s.get(variant)

    def get(self, variant: str) -> Model:
        """Return a variant, loaded now if it is not there.

        Raises:
            ModelError: it cannot be loaded; what was there before may be gone.
        """
        model = self._models.get(variant)
        if model is None:
            self._make_room(variant)
            log.info("loading %s", variant)
            began = self._monotonic()
            model = self._models[variant] = self._load(variant)
            self._load_s[variant] = self._monotonic() - began
        self._models.move_to_end(variant)
        return model

    def makes_room(self, variant: str) -> bool:
        """Say whether loading a variant would take another one out of memory."""
        return variant not in self._models and bool(self._models) and self._bytes(variant) > self._budget()

    def _budget(self) -> float:
        return float("inf") if self._budget_bytes is None else self._budget_bytes

    def _bytes(self, *more: str) -> int:
        parts: dict[Hashable, int] = {}
        for variant in {*self._models, *more}:
            parts.update(self._sizes(variant))
        return sum(parts.values())

    def _make_room(self, variant: str) -> None:
        while self._models and self._bytes(variant) > self._budget():
            oldest, _ = self._models.popitem(last=False)
            log.info("%s leaves the memory to make room for %s", oldest, variant)
            gc.collect()
            if torch.cuda.is_initialized():
                torch.cuda.empty_cache()
        if self._bytes(variant) > self._budget():
            log.warning(
                "%s alone has %d bytes, more than the budget of %d", variant, self._bytes(variant), self._budget()
            )
