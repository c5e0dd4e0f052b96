"""What is compared of a flow network, for whatever variant."""

from __future__ import annotations

import torch
from torch import Tensor

from mmaudio_model.networks.flow import Conditions, FlowNetwork
from mmaudio_model.sampling import Guidance, euler
from tests.parity.vectors import Case

CONDITION_TOLERANCE = 3e-5


def differences_of_forward(network: FlowNetwork, case: Case) -> dict[str, float]:
    """Run one velocity with each set of conditions; return the largest difference of each recorded tensor."""
    latent, t = case.input("latent"), case.input("t")
    tokens = latent.shape[1]
    with torch.inference_mode():
        given = network.prepare(
            case.input("clip_features"), case.input("sync_features"), case.input("text_features"), tokens
        )
        empty = empty_conditions(network, case, network.empty_string_feat.expand(len(latent), -1, -1))
        found = {
            "flow": network.velocity(latent, t, given),
            "cond_clip_f": given.clip,
            "cond_sync_f": given.sync,
            "cond_text_f": given.text,
            "flow_empty": network.velocity(latent, t, empty),
            "empty_clip_f": empty.clip,
            "empty_sync_f": empty.sync,
            "empty_text_f": empty.text,
            "t_embedding": network.t_embed(t),
        }
        if case.has("negative_text_features"):
            negative = empty_conditions(network, case, case.input("negative_text_features"))
            found["flow_negative"] = network.velocity(latent, t, negative)
            found["negative_text_f"] = negative.text
    return {name: case.difference(name, value) for name, value in found.items() if name in case.record["outputs"]}


def differences_of_sampling(network: FlowNetwork, case: Case) -> dict[str, float]:
    """Sample with guidance; return the largest difference at the ends (and after a first step, where recorded)."""
    noise, options = case.input("x0"), case.options
    with torch.inference_mode():
        given = network.prepare(
            case.input("clip_features"), case.input("sync_features"), case.input("text_features"), noise.shape[1]
        )
        negative = case.input("negative_text_features") if options["negative"] else network.empty_string_feat[None]
        empty = empty_conditions(network, case, negative.expand(len(noise), -1, -1))
        guided = options["cfg"] >= 1
        strength = torch.full((len(noise), 1, 1), options["cfg"])
        guidance = Guidance(given, empty if guided else None, strength)
        x1, rows = euler(network, noise, guidance, options["steps"])
    assert rows == list(range(len(noise)))
    return {
        "x1": case.difference("x1", x1),
        "x1_unnormalized": case.difference("x1_unnormalized", network.denormalise(x1)),
    }


def empty_conditions(network: FlowNetwork, case: Case, text: Tensor) -> Conditions:
    options, batch = case.options, len(text)
    return network.prepare(
        network.empty_clip_feat.expand(batch, options["clip_seq_len"], -1),
        network.empty_sync_feat.expand(batch, options["sync_seq_len"], -1),
        text,
        options["latent_seq_len"],
    )
