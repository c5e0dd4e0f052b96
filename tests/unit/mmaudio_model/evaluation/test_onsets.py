from __future__ import annotations

import numpy as np
import pytest

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.evaluation.matching import match_onsets, pool
from mmaudio_model.evaluation.onsets import detect_onsets
from mmaudio_model.procedural_world.scene import IMPACT_CLASSES, make_scene
from mmaudio_model.procedural_world.sound import make_sound

RATE = 16_000


def clicks(times_s: list[float], seconds: float = 2.0, rate: int = RATE, level: float = 0.5) -> np.ndarray:
    """Short decaying noises over a faint floor."""
    rng = np.random.default_rng(0)
    sound = 1e-4 * rng.standard_normal(round(seconds * rate))
    for time_s in times_s:
        start = round(time_s * rate)
        burst = rng.standard_normal(rate // 10) * np.exp(-np.arange(rate // 10) / (0.01 * rate))
        sound[start : start + len(burst)] += level * burst[: len(sound) - start]
    return sound.astype(np.float32)


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_clicks_are_found_where_they_are(rate: int):
    times = [0.11, 0.3, 0.45, 1.2, 1.93]
    assert detect_onsets(clicks(times, rate=rate), rate) == pytest.approx(times, abs=0.01)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.9])
def test_quiet_clicks_are_found_as_loud_ones(level: float):
    assert detect_onsets(clicks([0.5, 1.0], level=level), RATE) == pytest.approx([0.5, 1.0], abs=0.01)


def test_nothing_strikes_in_silence_in_a_steady_tone_and_in_no_sound_at_all():
    time_s = np.arange(2 * RATE) / RATE
    tone = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    wavering = 0.5 * np.sin(2 * np.pi * 440 * time_s + 20 * np.sin(2 * np.pi * 3 * time_s))
    for sound in (np.zeros(2 * RATE), tone, wavering, np.zeros(0), np.zeros(1)):
        assert len(detect_onsets(sound.astype(np.float32), RATE)) == 0
    for seed in range(3):
        assert len(detect_onsets(make_sound(make_scene(seed, class_name="silence"), RATE), RATE)) == 0


def test_two_channels_or_a_low_rate_are_refused():
    with pytest.raises(RequestInvalidError, match=r"\(2, 100\)"):
        detect_onsets(np.zeros((2, 100)), RATE)
    with pytest.raises(RequestInvalidError, match="8000 Hz"):
        detect_onsets(np.zeros(100), 8_000)


@pytest.mark.parametrize("class_name", sorted(IMPACT_CLASSES))
def test_the_events_of_true_sounds_are_found(class_name: str):
    scenes = [make_scene(seed, class_name=class_name) for seed in range(3)]
    found = pool(
        match_onsets([event.time_s for event in scene.events], detect_onsets(make_sound(scene, RATE), RATE))
        for scene in scenes
    )
    assert found.f1 >= 0.95
    assert abs(np.median(found.delays_s)) < 0.005


def test_onsets_that_are_all_a_little_late_match_and_say_so():
    events = [0.5, 1.0, 1.5, 2.0]
    late = match_onsets(events, [time_s + 0.05 for time_s in events])
    assert late.f1 == 1
    figures = late.figures()
    assert figures["delay_median_s"] == pytest.approx(0.05)
    assert figures["delay_mean_absolute_s"] == pytest.approx(0.05)


def test_onsets_that_are_too_late_match_nothing():
    missed = match_onsets([0.5, 1.0], [0.57, 1.07])
    assert (missed.f1, missed.precision, missed.recall) == (0, 0, 0)
    assert missed.figures()["delay_median_s"] is None


def test_one_onset_counts_for_one_event_only():
    once = match_onsets([1.0, 1.05], [1.03])
    assert (once.precision, once.recall) == (1, 0.5)
    assert once.f1 == pytest.approx(2 / 3)
    twice = match_onsets([1.0], [0.98, 1.02])
    assert (twice.precision, twice.recall) == (0.5, 1)


def test_as_many_pairs_are_made_as_can_be():
    # The onset that is nearest to the first event must be left to the second.
    assert match_onsets([1.0, 1.06], [0.96, 1.01]).f1 == 1


def test_where_nothing_is_to_be_found_finding_nothing_is_perfect():
    assert match_onsets([], []).f1 == 1
    assert match_onsets([], [1.0]).f1 == 0
    assert match_onsets([1.0], []).f1 == 0


def test_pooled_matches_count_every_event_the_same():
    both = pool([match_onsets([1.0], [1.0]), match_onsets([1.0, 2.0, 3.0], [])])
    assert both.recall == pytest.approx(1 / 4)
    assert both.precision == 1
    assert pool([]).f1 == 1
