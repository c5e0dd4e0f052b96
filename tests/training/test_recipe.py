"""A variant of our own from nothing: the whole recipe, small, in a few minutes."""

from __future__ import annotations

import numpy as np
import pytest

from mmaudio_model.lengths import frame_counts
from mmaudio_model.media.frames import VideoFrames
from mmaudio_model.pipeline import GenerationRequest, Pipeline
from mmaudio_model.procedural_world.scene import HELD_OUT_FROM, make_scene
from mmaudio_model.training.data.clip import ClipShape
from mmaudio_model.training.data.shards import Shards
from mmaudio_model.training.data.world_clips import seen_frames
from mmaudio_model.training.log import read_log
from mmaudio_model.training.recipe import PARTS, SMOKE, RecipeRun
from mmaudio_model.variants import get_variant

TINY = get_variant("tiny_16k")
LOWERED_TO = {"vae": 0.6, "sync": 0.9, "clip": 0.95, "vocoder": 0.88, "flow": 0.9}
"""Each loss on clips that were not trained on, at the end of the run, as a share of that before the first step."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RecipeRun:
    run = RecipeRun(TINY, SMOKE, tmp_path_factory.mktemp("run"), processes=2, on_progress=lambda *_: None)
    run.run()
    return run


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", PARTS)
def test_training_lowers_the_loss_of_each_part(run: RecipeRun, part: str) -> None:
    validation = read_log(run.folder / part, "validation")

    assert validation[0]["step"] == 0
    assert validation[-1]["step"] == SMOKE.options[part].steps
    assert validation[-1]["loss"] <= LOWERED_TO[part] * validation[0]["loss"]


def test_the_weights_of_a_run_make_sound_of_a_video(run: RecipeRun) -> None:
    pipeline = Pipeline.load(TINY, weights_dir=run.weights)
    scene = make_scene(HELD_OUT_FROM, duration_s=2.56)
    shape = ClipShape.of(TINY, scene.duration_s)
    clip, sync = seen_frames(scene, shape, fps=25, aspect=1.0)
    video = VideoFrames(clip=clip, sync=sync, duration_s=scene.duration_s)

    (sound,) = pipeline.generate([GenerationRequest(scene.duration_s, seed=1, video=video, num_steps=4)])

    assert frame_counts(scene.duration_s) == (len(clip), len(sync))
    assert sound is not None
    assert sound.shape == (round(2.56 * 16_000),)
    assert np.isfinite(sound).all()


def test_a_second_run_in_the_same_folder_trains_nothing_again(run: RecipeRun) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.glob("*/*/shard.json")}
    told: list[tuple[str, int, int]] = []

    RecipeRun(TINY, SMOKE, run.folder, processes=1, on_progress=lambda *step: told.append(step)).run()

    assert {path: path.stat().st_mtime_ns for path in run.folder.glob("*/*/shard.json")} == before
    assert {step for step, *_ in told} == {"clips", "features"}
    assert len(Shards(run.folder / "clips")) == SMOKE.clips


def test_each_validation_leaves_samples_to_listen_to(run: RecipeRun) -> None:
    for part in ("vocoder", "flow"):
        assert list((run.folder / part / "samples").glob("*.flac"))
