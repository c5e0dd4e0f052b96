"""What needs more than 4 GB: CLIP and the larger flow networks. Run it by name: `pytest tests/parity/large.py`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from mmaudio_model.networks.clip import encode_frames, encode_tokens, tokenizer
from tests.parity import flow_checks, networks
from tests.parity.vectors import case

CLIP_TOLERANCE = 2e-6
# The second form's time frequencies reach 10,000, so float32 phases are rougher.
TOLERANCE = {"flow": 1e-4, "flow_v2": 3e-3, "sampled": 3e-4}


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.mark.parametrize(
    ("variant", "forwards", "samplings"),
    [
        ("small_44k", ["5.3s", "8s"], ["5.3s_cfg4.5_4steps_neg"]),
        ("medium_44k", ["8s"], []),
        ("large_44k", ["2s", "8s"], []),
        ("large_44k_v2", ["2s", "8s"], ["2s_cfg4.5_3steps_neg"]),
    ],
)
def test_flow_network_is_the_published_one(variant: str, forwards: list[str], samplings: list[str]) -> None:
    network = networks.flow(variant)
    loose = TOLERANCE["flow_v2"] if network.sizes.v2 else None
    for name in forwards:
        for output, difference in flow_checks.differences_of_forward(
            network, case(f"flow_forward_{variant}_{name}")
        ).items():
            strict = TOLERANCE["flow"] if output.startswith("flow") else flow_checks.CONDITION_TOLERANCE
            tolerance = loose if loose and output.startswith(("flow", "t_")) else strict
            assert difference <= tolerance, (name, output)
    for name in samplings:
        found = flow_checks.differences_of_sampling(network, case(f"sampling_{variant}_{name}"))
        assert max(found.values()) <= (loose or TOLERANCE["sampled"]), name


def test_clip_sees_and_reads_as_the_published_one() -> None:
    network = networks.clip()
    text, image = case("text"), case("clip_image")
    states = encode_tokens(network, tokenizer()(text.options["prompts"]))

    assert text.difference("features", states) <= CLIP_TOLERANCE
    for name in ("fine", "coarse", "border_only"):
        features = encode_frames(network, image.input(name)[0])[None]
        assert image.difference(f"features_{name}", features) <= CLIP_TOLERANCE, name
