"""Every network has exactly the tensors of its published file, by name and shape."""

from __future__ import annotations

import json

import pytest

from mmaudio_model.checkpoints.files import needed_files
from mmaudio_model.checkpoints.loading import new_networks
from mmaudio_model.variants import VARIANTS
from tests.parity.vectors import DATA

PUBLISHED = [name for name, variant in VARIANTS.items() if not variant.seeded]
OLD_NAMES = {"parametrizations.weight.original0": "weight_g", "parametrizations.weight.original1": "weight_v"}


@pytest.mark.parametrize("name", PUBLISHED)
def test_networks_have_the_published_tensors(name: str) -> None:
    variant = VARIANTS[name]
    networks = new_networks(variant, device="meta")
    manifests = {"sync": "synchformer_state_dict", "clip": "open_clip_pytorch_model", "flow": f"mmaudio_{name}"}
    manifests["vae"] = "v1-16" if variant.mode.name == "16k" else "v1-44"
    manifests["vocoder"] = "best_netG" if variant.mode.name == "16k" else "bigvgan_v2_44khz_128band_512x"

    for file in needed_files(variant):
        content = json.loads((DATA / "manifests" / f"{manifests[file.part]}.json").read_text())
        published = {
            key: entry["shape"]
            for entry in content["tensors"]
            if (key := entry["key"].removeprefix(file.prefix)) not in file.tolerated
        }
        assert _tensors(networks[file.part].state_dict()) == published, file.part
        assert content["file"].endswith(file.path.rsplit("/")[-1])


def _tensors(state: dict) -> dict[str, list[int]]:
    found = {}
    for key, value in state.items():
        for new, old in OLD_NAMES.items():
            key = key.replace(new, old)
        found[key] = list(value.shape)
    return found
