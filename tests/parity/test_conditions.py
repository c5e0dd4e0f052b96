"""Token counts, the tokenizer and the synchronisation encoder against the published ones."""

from __future__ import annotations

import json

import pytest
import torch

from mmaudio_model.lengths import sequence_lengths
from mmaudio_model.networks.tokenizer import tokenizer
from mmaudio_model.variants import get_variant
from tests.parity import networks
from tests.parity.vectors import DATA, case

ONE_SEGMENT_S = 0.64
SYNC_TOLERANCE = 2e-5
RECORDED_LENGTHS = json.loads((DATA / "seq_lengths.json").read_text())


@pytest.mark.parametrize("mode", ["16k", "44k"])
@pytest.mark.parametrize("record", RECORDED_LENGTHS, ids=lambda record: f"{record['duration']}s")
def test_token_counts_are_the_published_ones(record: dict, mode: str) -> None:
    variant, duration_s = get_variant(f"small_{mode}"), record["duration"]
    lengths = sequence_lengths(variant, duration_s)
    expected = record[mode]

    assert (lengths.latent, lengths.clip) == (expected["latent"], expected["clip"])
    assert lengths.decoded_samples == expected["samples"]
    # Below one segment the published code has no synchronisation token, and fails; here it has one segment.
    assert lengths.sync == (expected["sync"] if duration_s >= ONE_SEGMENT_S else 8)
    assert lengths.samples == round(duration_s * variant.sample_rate_hz) <= lengths.decoded_samples


def test_prompts_become_the_published_tokens() -> None:
    recorded = case("text")

    assert tokenizer()(recorded.options["prompts"]).tolist() == recorded.expected("tokens").tolist()


def test_synchronisation_features_are_the_published_ones() -> None:
    network, recorded = networks.synchformer(), case("synchformer")

    for name in ("one_segment", "tail_dropped"):
        with torch.inference_mode():
            features = network(recorded.input(name))
        assert recorded.difference(f"features_{name}", features) <= SYNC_TOLERANCE, name
