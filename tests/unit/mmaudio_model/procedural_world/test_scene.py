from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.procedural_world.event import MIN_GAP_S
from mmaudio_model.procedural_world.picture import draw_frame
from mmaudio_model.procedural_world.scene import CLASSES, HELD_OUT_FROM, IMPACT_CLASSES, make_scene
from mmaudio_model.procedural_world.sound import make_sound

# What a caption must contain, one of each, so that nobody takes it for another class.
WORDS = {
    "ball_wood": ("wood",),
    "ball_metal": ("metal",),
    "ball_glass": ("glass",),
    "ball_rubber": ("rubber",),
    "hammer": ("hammer",),
    "footsteps": ("footstep",),
    "drum": ("drum",),
    "rain": ("rain",),
    "wind": ("wind",),
    "engine": ("engine",),
    "siren": ("siren",),
    "clock": ("clock",),
    "silence": ("silen",),
}
# Change these only together with a new model: the shipped one and its figures come from these scenes.
PINNED = "338a84d826e0640b"


@pytest.mark.parametrize("class_name", CLASSES)
def test_the_same_seed_gives_the_same_scene_picture_and_sound(class_name: str):
    first, second = (make_scene(11, duration_s=2.0, class_name=class_name) for _ in range(2))
    assert first == second
    assert hash(first) == hash(second)
    assert np.array_equal(draw_frame(first, 0.7, 48, 64), draw_frame(second, 0.7, 48, 64))
    assert np.array_equal(make_sound(first, 16_000), make_sound(second, 16_000))


def test_other_seeds_give_other_scenes():
    scenes = [make_scene(seed, class_name="ball_wood") for seed in range(20)]
    assert len({scene.events for scene in scenes}) == 20
    assert len({scene.setting for scene in scenes}) == 20


def test_the_events_of_the_first_scenes_are_those_that_were_published():
    text = ";".join(
        f"{scene.class_name}:"
        + ",".join(f"{1000 * event.time_s:.0f}/{100 * event.strength:.0f}" for event in scene.events)
        for scene in (make_scene(seed) for seed in range(40))
    )
    assert hashlib.sha256(text.encode()).hexdigest()[:16] == PINNED


def test_every_class_comes_up_in_300_seeds():
    counts = dict.fromkeys(CLASSES, 0)
    for seed in range(300):
        counts[make_scene(seed).class_name] += 1
    assert min(counts.values()) >= 8, counts


@pytest.mark.parametrize("class_name", sorted(IMPACT_CLASSES))
@pytest.mark.parametrize("duration_s", [1.0, 4.0, 8.0, 12.0])
def test_impacts_lie_inside_the_clip_and_apart(class_name: str, duration_s: float):
    for seed in range(15):
        events = make_scene(seed, duration_s=duration_s, class_name=class_name).events
        times = [event.time_s for event in events]
        assert times, f"seed {seed} has no event"
        assert times[0] > 0
        assert times[-1] < duration_s
        assert all(after - before >= MIN_GAP_S for before, after in pairwise(times))
        assert all(0 < event.strength <= 1 for event in events)


@pytest.mark.parametrize("class_name", sorted(IMPACT_CLASSES))
def test_impacts_go_on_to_the_end_but_leave_pauses(class_name: str):
    for seed in range(15):
        times = [event.time_s for event in make_scene(seed, class_name=class_name).events]
        # A guess without looking must not hit often: at two a second it would be right a quarter of the time.
        assert 4 <= len(times) <= 24
        assert times[-1] > 5.5


@pytest.mark.parametrize("class_name", sorted(set(CLASSES) - IMPACT_CLASSES))
def test_what_sounds_all_the_time_has_no_events(class_name: str):
    assert make_scene(3, class_name=class_name).events == ()


@pytest.mark.parametrize("class_name", CLASSES)
def test_captions_name_the_class_and_differ(class_name: str):
    for seed in range(10):
        captions = make_scene(seed, class_name=class_name).captions
        assert len(captions) == len(set(captions)) >= 4
        for caption in captions:
            assert any(word in caption for word in WORDS[class_name]), caption


def test_evaluation_seeds_begin_at_a_million():
    assert HELD_OUT_FROM == 1_000_000
    assert not make_scene(HELD_OUT_FROM - 1).held_out
    assert make_scene(HELD_OUT_FROM).held_out


@pytest.mark.parametrize(
    ("seed", "options", "message"),
    [
        (0, {"class_name": "piano"}, "Got class 'piano'; there are ball_wood"),
        (-1, {}, "Got seed -1"),
        (0, {"duration_s": 0.0}, "at least 0.5 s"),
        (0, {"duration_s": float("nan")}, "at least 0.5 s"),
    ],
)
def test_what_cannot_be_made_is_refused_with_a_reason(seed: int, options: dict, message: str):
    with pytest.raises(RequestInvalidError, match=message):
        make_scene(seed, **options)
