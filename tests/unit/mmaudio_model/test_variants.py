"""The registry of variants, and what can be known of the model without torch."""

from __future__ import annotations

import subprocess
import sys

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
    assert "13 kinds of sound" in tiny.note


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownVariantError, match=r"'huge'.*tiny_16k, small_16k"):
        get_variant("huge")


def test_variants_lengths_errors_and_files_are_known_without_torch() -> None:
    modules = "mmaudio_model.variants, mmaudio_model.lengths, mmaudio_model.errors, mmaudio_model.checkpoints.files"
    code = (
        f"import sys, pathlib, {modules}\n"
        "from mmaudio_model.checkpoints.files import is_installed\n"
        "from mmaudio_model.variants import VARIANTS\n"
        "[is_installed(variant, pathlib.Path('nowhere')) for variant in VARIANTS.values()]\n"
        "assert 'torch' not in sys.modules and 'numpy' not in sys.modules, sorted(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
