"""Weights folders and an empty cache for each test."""

from __future__ import annotations

from tests.weights_fixtures import converted, hub_cache, published, weights_dir

__all__ = ["converted", "hub_cache", "published", "weights_dir"]
