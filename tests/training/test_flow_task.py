"""What the flow network is trained on: which conditions are left out how often, and what a part of a clip is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mmaudio_model.checkpoints.parts import new_network
from mmaudio_model.checkpoints.random_init import fill_from_seed
from mmaudio_model.lengths import sequence_lengths
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.task import Draw
from mmaudio_model.training.tasks.flow import CROP_SHARE, KEPT, FlowTask, FlowTraining, new_flow
from mmaudio_model.variants import Variant, get_variant
from tests.training.features import write_features

TINY = get_variant("tiny_16k")
PUBLISHED_WAY = replace(TINY, sync=replace(TINY.sync, token_a_frame=False))


def task_of(variant: Variant, features: Shards) -> FlowTask:
    flow = new_network(variant, "flow")
    fill_from_seed(flow, "flow")
    return FlowTask(variant, features, flow=flow)


def test_conditions_are_left_out_as_often_as_is_said(tmp_path: Path) -> None:
    task = task_of(TINY, write_features(tmp_path, TINY, 0.64))
    count = 4000
    kept = task.draw_batch(Draw.of(0, 0, 0), count, validation=False)["kept"]
    shares = {which: found / count for which, found in Counter(map(tuple, kept.tolist())).items()}

    assert sum(KEPT.values()) == pytest.approx(1)
    assert set(shares) == set(KEPT)
    for which, share in KEPT.items():
        # Four standard deviations: the draw is fixed, so this passes or fails for ever.
        assert shares[which] == pytest.approx(share, abs=4 * (share * (1 - share) / count) ** 0.5)


@pytest.mark.parametrize("duration_s", [8.0, 2.56, 1.9])
def test_all_streams_of_a_part_begin_and_end_at_the_same_time(tmp_path: Path, duration_s: float) -> None:
    task = task_of(TINY, write_features(tmp_path, TINY, duration_s))
    whole, parts = 0, Counter()
    for step in range(60):
        batch = task.draw_batch(Draw.of(1, step, 0), 2, validation=False)
        latent, clip, sync = batch["latent"], batch["clip"], batch["sync"]
        begins = {name: float(values[0, 0, 0]) for name, values in (("latent", latent), ("clip", clip), ("sync", sync))}
        whole += latent.shape[1] == sequence_lengths(TINY, duration_s).latent
        parts[latent.shape[1]] += 1
        # Within a frame at 8 fps; a token of the others is 32 ms and 40 ms.
        assert begins["latent"] == pytest.approx(begins["sync"], abs=0.02)
        assert begins["clip"] == pytest.approx(begins["sync"], abs=0.07)
        ends = {"latent": float(latent[0, -1, 0]) + 0.032, "sync": float(sync[0, -1, 0]) + 0.04}
        if latent.shape[1] != sequence_lengths(TINY, duration_s).latent:
            assert ends["latent"] == pytest.approx(ends["sync"], abs=0.02)
    assert len(parts) == 3, "a third, two thirds, and all"
    assert 60 * CROP_SHARE * 0.5 < whole < 60 * CROP_SHARE * 1.5


def test_validation_is_on_whole_clips(tmp_path: Path) -> None:
    task = task_of(TINY, write_features(tmp_path, TINY, 2.56))
    lengths = {task.draw_batch(Draw.of(0, step, 0), 1, validation=True)["latent"].shape[1] for step in range(20)}
    assert lengths == {80}


def test_clips_are_not_cut_where_a_token_is_not_a_frame(tmp_path: Path) -> None:
    task = task_of(PUBLISHED_WAY, write_features(tmp_path, PUBLISHED_WAY, 2.56))
    lengths = {task.draw_batch(Draw.of(0, step, 0), 1, validation=False)["sync"].shape[1] for step in range(20)}
    assert lengths == {sequence_lengths(PUBLISHED_WAY, 2.56).sync}


def test_what_is_left_out_is_what_the_network_learned_as_nothing(tmp_path: Path) -> None:
    task = task_of(TINY, write_features(tmp_path, TINY, 0.64))
    module = task.module
    assert isinstance(module, FlowTraining)
    batch = task.draw_batch(Draw.of(0, 0, 0), 2, validation=True)
    flow = module.flow
    nothing = {"clip": flow.empty_clip_feat, "sync": flow.empty_sync_feat, "text": flow.empty_string_feat}

    with torch.no_grad():
        for index, (name, feature) in enumerate(nothing.items()):
            without = torch.ones(2, 3, dtype=torch.bool)
            without[:, index] = False
            replaced = {**batch, name: feature.expand_as(batch[name])}
            everything = torch.ones(2, 3, dtype=torch.bool)
            left_out = module({**batch, "kept": without})["loss"]
            assert left_out == module({**replaced, "kept": everything})["loss"]
            assert left_out != module({**batch, "kept": everything})["loss"]


def test_a_new_network_knows_the_latents_it_will_be_shown(tmp_path: Path) -> None:
    features = write_features(tmp_path, TINY, 0.64)
    flow = new_flow(TINY, features, torch.full((77, TINY.flow.text_dim), 0.25))

    times = torch.from_numpy(features.get("latent_mean", 0).astype(np.float32))
    assert torch.allclose(flow.latent_mean[0, 0], times.mean(0), atol=1e-4)
    assert torch.allclose(flow.latent_std[0, 0], times.std(0, unbiased=False), atol=1e-3)
    assert (flow.empty_string_feat == 0.25).all()
    frozen = {name for name, parameter in flow.named_parameters() if not parameter.requires_grad}
    assert frozen == {"latent_mean", "latent_std", "empty_string_feat"}
