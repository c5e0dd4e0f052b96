"""Every network has exactly the tensors of its published file, by name and shape."""

from __future__ import annotations

import json

import pytest

from mmaudio_model.checkpoints.parts import PartSource, new_network, part_sources
from mmaudio_model.variants import VARIANTS
from tests.parity.vectors import DATA

PUBLISHED = [name for name, variant in VARIANTS.items() if not variant.bundled]
OLD_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_the_published_tensors(name: str) -> None:
    variant = VARIANTS[name]
    manifests = {"sync": "synchformer_state_dict", "flow": f"mmaudio_{name}"}
    manifests |= dict.fromkeys(("clip_text", "clip_image"), "open_clip_pytorch_model")
    manifests["vae"] = "v1-16" if variant.mode.name == "16k" else "v1-44"
    manifests["vocoder"] = "best_netG" if variant.mode.name == "16k" else "bigvgan_v2_44khz_128band_512x"

    for part, source in part_sources(variant).items():
        content = json.loads((DATA / "manifests" / f"{manifests[part]}.json").read_text())
        published = {
            entry["key"].removeprefix(source.prefix): entry["shape"]
            for entry in content["tensors"]
            if _belongs(entry["key"], source)
        }
        assert _tensors(new_network(variant, part, device="meta").state_dict()) == published, part
        assert content["file"].endswith(source.file.path.rsplit("/")[-1])


def _belongs(key: str, source: PartSource) -> bool:
    if source.others is not None and key.startswith(source.others):
        return False
    return key.startswith(source.prefix) and key.removeprefix(source.prefix) not in source.tolerated


def _tensors(state: dict) -> dict[str, list[int]]:
    found = {}
    for key, value in state.items():
        for new, old in OLD_NAMES.items():
            key = key.replace(new, old)
        found[key] = list(value.shape)
    return found
