"""Which variants stay in memory, and that what they have in common is there once."""

from __future__ import annotations

import weakref

import pytest
import torch

from mmaudio_model.checkpoints.loading import SharedParts, load_networks
from mmaudio_model.checkpoints.parts import PARTS, part_bytes, part_identity
from mmaudio_model.variants import get_variant
from workers.engine.model_cache import ModelCache

SIZES = {"a": {"clip": 50, "a": 20}, "b": {"clip": 50, "b": 20}, "c": {"clip": 50, "c": 30}, "huge": {"huge": 500}}


class Loaded:
    def __init__(self, variant: str) -> None:
        self.variant = variant


def cache(budget_bytes: int | None) -> ModelCache[Loaded]:
    return ModelCache(Loaded, sizes=SIZES.__getitem__, budget_bytes=budget_bytes)


def test_variants_stay_while_the_budget_has_room_and_what_they_share_counts_once() -> None:
    models = cache(90)

    first = models.get("a")
    models.get("b")

    assert models.get("a") is first
    assert models.loaded == ["b", "a"]


def test_the_least_recently_used_variant_goes_first_and_nothing_of_it_stays() -> None:
    models = cache(110)
    models.get("a")
    gone = weakref.ref(models.get("b"))
    models.get("a")

    assert models.evicts("c")
    models.get("c")

    assert models.loaded == ["a", "c"]
    assert gone() is None


def test_a_variant_larger_than_the_budget_is_loaded_alone_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    models = cache(110)
    models.get("a")

    models.get("huge")

    assert models.loaded == ["huge"]
    assert "more than the budget" in caplog.text


def test_without_a_budget_everything_stays() -> None:
    models = cache(None)
    for variant in SIZES:
        models.get(variant)

    assert models.loaded == list(SIZES)


def test_how_long_a_variant_takes_to_load_is_known_once_it_was() -> None:
    seconds = iter([10.0, 12.5])
    models = ModelCache(Loaded, monotonic=lambda: next(seconds))
    assert models.load_s("a") is None
    models.get("a")
    assert models.load_s("a") == 2.5


def test_published_variants_share_clip_and_synchformer_and_tiny_has_its_own() -> None:
    small, large, tiny = (get_variant(name) for name in ("small_16k", "large_44k_v2", "tiny_16k"))
    common = {part for part in PARTS if part_identity(small, part) == part_identity(large, part)}
    assert common == {"clip_text", "clip_image", "sync"}
    assert not any(part_identity(small, part) == part_identity(tiny, part) for part in PARTS)
    medium = get_variant("medium_44k")
    assert {part for part in PARTS if part_identity(medium, part) == part_identity(large, part)} == common | {
        "vae",
        "vocoder",
    }


def test_shared_parts_are_one_object_and_go_with_the_last_that_uses_them() -> None:
    shared = SharedParts()

    def load() -> object:
        return load_networks(
            get_variant("tiny_16k"), weights_dir=None, device="cpu", dtype=torch.float32, parts=["sync"], shared=shared
        )

    one, two = load(), load()
    assert one.sync is two.sync  # type: ignore[attr-defined]
    del one, two
    assert len(shared) == 0


def test_the_size_of_a_part_is_what_it_takes_when_it_is_loaded() -> None:
    variant = get_variant("tiny_16k")
    networks = load_networks(variant, weights_dir=None, device="cpu", dtype=torch.float32)

    for part, network in networks.parts().items():
        tensors = [*network.parameters(), *network.buffers()]
        assert part_bytes(variant, part, 4) == sum(tensor.nbytes for tensor in tensors), part
