"""An empty Hugging Face cache for each test."""

from __future__ import annotations

from tests.weights_fixtures import hub_cache

__all__ = ["hub_cache"]
