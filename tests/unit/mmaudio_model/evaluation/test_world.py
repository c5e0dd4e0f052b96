from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from mmaudio_model.evaluation.classifier import load_classifier
from mmaudio_model.evaluation.scenes import held_out_scenes, render_frames, true_sound
from mmaudio_model.evaluation.table import parts_table
from mmaudio_model.evaluation.world import GenerationOptions, SceneMetrics, evaluate_world, shuffled_order
from mmaudio_model.pipeline import GenerationRequest
from mmaudio_model.procedural_world.scene import CLASSES, HELD_OUT_FROM, Scene, make_scene
from mmaudio_model.variants import get_variant

TINY = get_variant("tiny_16k")


class KnowingPipeline:
    """Stands for a perfect model: it knows the scenes, and obeys a negative prompt by staying silent."""

    variant = TINY

    def __init__(self, scenes: Sequence[Scene]) -> None:
        self.scenes = scenes
        self.requests: list[GenerationRequest] = []

    def generate(self, requests: Sequence[GenerationRequest]) -> list[np.ndarray]:
        self.requests += requests
        sounds = [true_sound(self.scenes[request.seed]) for request in requests]
        return [
            np.zeros_like(sound) if request.negative_prompt else sound
            for request, sound in zip(requests, sounds, strict=True)
        ]


@pytest.fixture(scope="module")
def judge() -> SceneMetrics:
    return SceneMetrics(load_classifier())


@pytest.fixture(scope="module")
def seen(judge: SceneMetrics) -> tuple[KnowingPipeline, dict[str, Any], list[str]]:
    """Two balls and two drums of 4 s, judged in all parts."""
    names = ("ball_wood", "drum", "ball_wood", "drum")
    scenes = [make_scene(seed, duration_s=4.0, class_name=name) for seed, name in enumerate(names)]
    pipeline = KnowingPipeline(scenes)
    told: list[str] = []
    report = evaluate_world(
        pipeline,  # type: ignore[arg-type]
        scenes,
        judge,
        generation_options=GenerationOptions(num_steps=3, batch_size=3),
        on_progress=lambda name, done, count: told.append(f"{name} {done}/{count}"),
    )
    return pipeline, report, told


def test_a_perfect_model_gets_perfect_marks(seen: tuple[KnowingPipeline, dict[str, Any], list[str]]):
    _, report, _ = seen
    assert report["video"]["class_accuracy"] == 1
    assert report["video"]["onsets"]["f1"] >= 0.95
    assert abs(report["video"]["onsets"]["delay_median_s"]) < 0.005
    assert report["video"]["log_mel_frechet_distance"] == pytest.approx(0, abs=1e-6)
    assert report["text"]["class_accuracy"] == 1
    assert report["true"]["log_mel_frechet_distance"] > 1


def test_the_sound_of_another_scene_of_the_class_does_not_fit(seen: tuple[KnowingPipeline, dict[str, Any], list[str]]):
    _, report, _ = seen
    assert report["shuffled"]["onsets"]["f1"] < 0.5 * report["video"]["onsets"]["f1"]
    assert report["shuffled"]["onsets"]["expected"] == report["video"]["onsets"]["expected"]


def test_a_negative_prompt_that_is_obeyed_lowers_its_class(seen: tuple[KnowingPipeline, dict[str, Any], list[str]]):
    _, report, _ = seen
    negative = report["negative"]
    assert negative["class_probability_without"] > 0.9
    assert negative["class_probability_with"] < 0.1
    assert negative["share_lowered"] == 1


def test_each_part_asks_for_what_it_says(seen: tuple[KnowingPipeline, dict[str, Any], list[str]]):
    pipeline, _, told = seen
    video, negative, text, speed = (pipeline.requests[start : start + 4] for start in (0, 4, 8, 12))
    assert all(one.video is not None and one.prompt == "" and one.negative_prompt == "" for one in video)
    assert [one.negative_prompt for one in negative] == [scene.captions[0] for scene in pipeline.scenes]
    assert all(one.video is not None for one in negative)
    assert [one.prompt for one in text] == [scene.captions[0] for scene in pipeline.scenes]
    assert all(one.video is None for one in text)
    assert all(one.num_steps == 25 for one in speed)
    assert {one.num_steps for one in (*video, *negative, *text)} == {3}
    assert [line for line in told if line.startswith("video")] == ["video 3/4", "video 4/4"]


def test_the_table_shows_the_parts_that_were_judged(seen: tuple[KnowingPipeline, dict[str, Any], list[str]]):
    _, report, _ = seen
    table = parts_table(report, ("true", "video", "shuffled", "text", "absent"))
    assert list(table.columns[0].cells) == ["true", "video", "shuffled", "text"]
    headers = [column.header for column in table.columns]
    assert list(table.columns[headers.index("class accuracy")].cells) == ["1.000", "1.000", "", "1.000"]


def test_a_model_that_says_nothing_gets_no_marks(judge: SceneMetrics):
    scenes = [make_scene(seed, duration_s=4.0, class_name=name) for seed, name in enumerate(("siren", "clock"))]
    silence = [np.zeros(64_000, dtype=np.float32)] * 2
    assert judge.classes(scenes, silence)["class_accuracy"] == 0
    assert judge.onsets(scenes, silence)["onsets"]["f1"] == 0
    assert judge.classes(scenes, silence)["taken_for"] == {"siren": {"silence": 1}, "clock": {"silence": 1}}


def test_held_out_scenes_are_balanced_and_never_trained_on():
    scenes = held_out_scenes(2 * len(CLASSES), 2.0)
    assert [scene.class_name for scene in scenes] == [*CLASSES, *CLASSES]
    assert all(scene.held_out for scene in scenes)
    assert scenes[0].seed == HELD_OUT_FROM


def test_a_shuffled_video_is_another_one_of_the_class():
    scenes = held_out_scenes(2 * len(CLASSES) + 1, 2.0)
    order = shuffled_order(scenes)
    assert sorted(order) == list(range(len(scenes)))
    for place, other in enumerate(order):
        assert scenes[other].class_name == scenes[place].class_name
        assert other != place
    assert shuffled_order(scenes[:1]) == [0]


def test_a_scene_is_filmed_as_it_would_be_read_from_a_file():
    scene = make_scene(3, duration_s=1.0, class_name="ball_rubber")
    frames = render_frames(scene, TINY)
    assert frames.clip.shape == (8, TINY.clip.frame_size, TINY.clip.frame_size, 3)
    assert frames.sync.shape == (25, TINY.sync.frame_size, TINY.sync.frame_size, 3)
    assert frames.clip.dtype == frames.sync.dtype == np.uint8
    assert (frames.sync[0] != frames.sync[-1]).any()
