"""The platform's facts about variants equal the model's."""

from __future__ import annotations

from jobs.variants import VARIANTS as KNOWN_TO_JOBS
from mmaudio_model.variants import VARIANTS as KNOWN_TO_MODEL


def test_both_catalogues_say_the_same() -> None:
    assert list(KNOWN_TO_JOBS) == list(KNOWN_TO_MODEL)
    for name, facts in KNOWN_TO_JOBS.items():
        variant = KNOWN_TO_MODEL[name]
        for field in vars(facts):
            assert getattr(facts, field) == getattr(variant, field), f"{name}.{field}"
