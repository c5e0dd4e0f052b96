from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmaudio_model.procedural_world.canvas import Canvas
from mmaudio_model.procedural_world.picture import draw_frame, draw_frames
from mmaudio_model.procedural_world.scene import CLASSES, IMPACT_CLASSES, Scene, make_scene

BALLS = ("ball_wood", "ball_metal", "ball_glass", "ball_rubber")
FRAME_S = 1 / 50


def on_a_tripod(scene: Scene) -> Scene:
    """The scene seen by a camera that does not move, without distractors."""
    camera = replace(scene.setting.camera, sway=(0.0, 0.0))
    return replace(scene, setting=replace(scene.setting, camera=camera, distractors=()))


@pytest.mark.parametrize("class_name", CLASSES)
def test_frames_have_the_size_and_number_asked_for(class_name: str):
    scene = make_scene(5, duration_s=1.5, class_name=class_name)
    frames = draw_frames(scene, fps=25, height=40, width=56)
    assert frames.shape == (38, 40, 56, 3)
    assert frames.dtype == np.uint8
    assert frames.std() > 5
    assert np.array_equal(frames[13], draw_frame(scene, 13 / 25, 40, 56))


@pytest.mark.parametrize("class_name", sorted(set(CLASSES) - {"silence"}))
def test_the_subject_moves_where_a_square_picture_sees_it(class_name: str):
    frames = draw_frames(on_a_tripod(make_scene(6, class_name=class_name)), fps=8, height=64, width=64)
    moved = np.abs(np.diff(frames.astype(int), axis=0)).max(axis=(1, 2, 3))
    assert (moved > 20).mean() > 0.2


@pytest.mark.parametrize("class_name", sorted(IMPACT_CLASSES))
def test_what_strikes_touches_at_each_event_and_not_around_it(class_name: str):
    for seed in range(8):
        scene = make_scene(seed, class_name=class_name)
        for event in scene.events:
            assert scene.subject.height(event.time_s) == pytest.approx(0, abs=2e-4)
            assert scene.subject.height(event.time_s - FRAME_S) > 1e-3


@pytest.mark.parametrize("class_name", sorted(IMPACT_CLASSES - {"footsteps"}))
def test_it_never_touches_between_events(class_name: str):
    scene = make_scene(2, class_name=class_name)
    events = np.array([event.time_s for event in scene.events])
    for time_s in np.arange(events[0], events[-1], 0.01):
        if np.abs(events - time_s).min() > FRAME_S:
            assert scene.subject.height(time_s) > 1e-3, time_s


@pytest.mark.parametrize("class_name", BALLS)
def test_the_drawn_ball_is_lowest_at_its_bounces(class_name: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Canvas, "shadow", lambda *args, **options: None)
    scene = on_a_tripod(make_scene(3, class_name=class_name))
    # The first bounces only: later, an earlier ball may still roll on the ground.
    first = scene.subject.throws[0]
    empty = draw_frame(replace(scene, subject=replace(scene.subject, throws=())), 0.0, 240, 240)
    for bounce in first.bounces_s[:2]:
        times = np.arange(bounce - 0.1, bounce + 0.1001, 0.01)
        lowest = []
        for time_s in times:
            changed = np.abs(draw_frame(scene, time_s, 240, 240).astype(int) - empty).max(axis=2) > 12
            lowest.append(np.flatnonzero(changed.any(axis=1)).max(initial=0))
        at_the_bottom = times[np.array(lowest) == max(lowest)]
        assert np.abs(at_the_bottom - bounce).max() <= FRAME_S + 1e-9
        ground = 240 * (1 - scene.setting.camera.ground_at)
        assert max(lowest) == pytest.approx(ground, abs=2)


def test_a_square_picture_is_the_middle_of_a_wide_one():
    scene = make_scene(8, class_name="drum")
    square, wide = draw_frame(scene, 1.0, 90, 90), draw_frame(scene, 1.0, 90, 160)
    assert np.abs(square.astype(int) - wide[:, 35:125]).mean() < 1.5


def test_the_picture_is_the_same_at_any_size():
    scene = make_scene(9, class_name="clock")
    small, large = draw_frame(scene, 1.0, 60, 60), draw_frame(scene, 1.0, 240, 240)
    shrunk = large.reshape(60, 4, 60, 4, 3).mean(axis=(1, 3))
    assert np.abs(shrunk - small).mean() < 6


def test_a_harder_blow_comes_from_higher():
    heights, strengths = [], []
    for seed in range(10):
        scene = make_scene(seed, class_name="drum")
        for before, event in zip(scene.events, scene.events[1:], strict=False):
            if event.time_s - before.time_s > 0.6:
                heights.append(scene.subject.height(event.time_s - 0.05))
                strengths.append(event.strength)
    assert np.corrcoef(heights, strengths)[0, 1] > 0.9
