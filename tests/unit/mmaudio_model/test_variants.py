"""The registry of variants."""

from __future__ import annotations

import pytest

from mmaudio_model.errors import UnknownVariantError
from mmaudio_model.variants import VARIANTS, get_variant


def test_the_five_published_variants_and_our_own_are_there() -> None:
    assert set(VARIANTS) == {"tiny_16k", "small_16k", "small_44k", "medium_44k", "large_44k", "large_44k_v2"}
    assert all(get_variant(name).name == name for name in VARIANTS)


def test_published_variants_are_fetched_and_not_for_commerce() -> None:
    for name, variant in VARIANTS.items():
        if name != "tiny_16k":
            assert (variant.bundled, variant.licence) == (False, "CC-BY-NC-4.0")


def test_tiny_is_ours_and_says_how_little_it_knows() -> None:
    tiny = get_variant("tiny_16k")

    assert (tiny.bundled, tiny.licence) == (True, "MIT")
    assert tiny.note is not None
    assert "13 sound classes" in tiny.note


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownVariantError, match=r"'huge'.*tiny_16k, small_16k"):
        get_variant("huge")
