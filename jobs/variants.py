"""The facts about model variants that the platform needs to check and route requests.

The API runs without torch and may not import the model, so these facts are repeated from `mmaudio_model.variants`;
`tests/unit/jobs/test_variant_catalogue.py` checks that they are equal.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

NONCOMMERCIAL = "CC-BY-NC-4.0"


@dataclass(frozen=True)
class VariantFacts:
    """A model variant as callers see it. Durations in seconds, rate in Hz."""

    name: str
    sample_rate_hz: int
    licence: str
    default_duration_s: float = 8.0
    min_duration_s: float = 0.32
    max_duration_s: float = 30.0
    note: str | None = None


_ALL = (
    VariantFacts(
        "tiny_16k",
        16_000,
        "MIT",
        note="a small demonstration model: it knows 13 sound classes of synthetic scenes, no real footage",
    ),
    VariantFacts("small_16k", 16_000, NONCOMMERCIAL),
    VariantFacts("small_44k", 44_100, NONCOMMERCIAL),
    VariantFacts("medium_44k", 44_100, NONCOMMERCIAL),
    VariantFacts("large_44k", 44_100, NONCOMMERCIAL),
    VariantFacts("large_44k_v2", 44_100, NONCOMMERCIAL),
)

VARIANTS = MappingProxyType({facts.name: facts for facts in _ALL})
