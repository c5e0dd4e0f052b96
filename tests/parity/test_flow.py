"""The flow network and its sampler against the published one (small_16k; `test_large` has the other sizes)."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from mmaudio_model.networks.flow import FlowNetwork
from tests.parity import flow_checks, networks
from tests.parity.vectors import case

FLOW_TOLERANCE = 1e-4
SAMPLED_TOLERANCE = 3e-4


@pytest.fixture(scope="module")
def small_16k() -> FlowNetwork:
    return networks.small_flow("small_16k")


@pytest.mark.parametrize("seconds", ["2", "5.3", "8", "10"])
def test_velocity_and_conditions_are_the_published_ones(small_16k: FlowNetwork, seconds: str) -> None:
    found = flow_checks.differences_of_forward(small_16k, case(f"flow_forward_small_16k_{seconds}s"))

    assert {"flow", "flow_empty", "cond_sync_f", "t_embedding"} <= set(found)
    for name, difference in found.items():
        tolerance = FLOW_TOLERANCE if name.startswith("flow") else flow_checks.CONDITION_TOLERANCE
        assert difference <= tolerance, name


@pytest.mark.parametrize(
    "name", ["2s_cfg0.5_5steps_neg", "2s_cfg1_5steps_neg", "2s_cfg4.5_5steps_noneg", "8s_cfg4.5_4steps_neg"]
)
def test_sampling_ends_where_the_published_sampler_does(small_16k: FlowNetwork, name: str) -> None:
    found = flow_checks.differences_of_sampling(small_16k, case(f"sampling_small_16k_{name}"))

    assert max(found.values()) <= SAMPLED_TOLERANCE


def test_twenty_five_guided_steps_do_not_drift_from_the_published_sampler(small_16k: FlowNetwork) -> None:
    found = flow_checks.differences_of_sampling(small_16k, case("sampling_small_16k_2s_cfg4.5_25steps_neg"))

    assert max(found.values()) <= SAMPLED_TOLERANCE


def test_bfloat16_stays_close_to_the_published_bfloat16(small_16k: FlowNetwork) -> None:
    network = deepcopy(small_16k).to(torch.bfloat16)
    recorded = case("bf16_flow")
    names = ("clip_features", "sync_features", "text_features")
    latent, t = recorded.input("latent"), recorded.input("t")
    with torch.inference_mode():
        features = (recorded.input(name).bfloat16() for name in names)
        conditions = network.prepare(*features, latent.shape[1])
        velocity = network.velocity(latent.bfloat16(), t, conditions)

    # Twice what bfloat16 costs the published code itself against float32.
    assert recorded.difference("flow", velocity) <= 2 * recorded.options["bf16_vs_fp32_maxabs"]
