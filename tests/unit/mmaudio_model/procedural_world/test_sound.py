from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mmaudio_model.procedural_world.event import Event
from mmaudio_model.procedural_world.scene import CLASSES, IMPACT_CLASSES, make_scene
from mmaudio_model.procedural_world.sound import make_sound
from mmaudio_model.procedural_world.sounds.material import make_body
from mmaudio_model.procedural_world.sounds.modal import strike_sound
from mmaudio_model.procedural_world.sounds.texture import filtered_noise
from mmaudio_model.procedural_world.sounds.tone import harmonic_tone

RATE = 16_000


def centroid_hz(sound: np.ndarray, rate: int = RATE) -> float:
    power = np.abs(np.fft.rfft(sound)) ** 2
    return float((power * np.fft.rfftfreq(len(sound), 1 / rate)).sum() / power.sum())


def steepest_rise_s(sound: np.ndarray, near_s: float) -> float:
    """Where, within 12 ms, the energy of the next 3 ms is largest against that of the last 3 ms."""
    # The difference of neighbours weighs high frequencies, so what still rings below does not hide a contact.
    energy = np.concatenate([[0.0], np.cumsum(np.diff(sound.astype(np.float64), prepend=0.0) ** 2)])
    span = int(0.003 * RATE)
    places = np.arange(int((near_s - 0.012) * RATE), int((near_s + 0.012) * RATE))
    after, before = energy[places + span] - energy[places], energy[places] - energy[places - span]
    # What is small against the blow itself is not a rise, however quiet it was before.
    return float(places[np.argmax(after / (before + 0.02 * after.max()))] / RATE)


@pytest.mark.parametrize("class_name", CLASSES)
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_sound_is_as_long_as_the_scene_and_within_bounds(class_name: str, rate: int):
    for seed in range(3):
        sound = make_sound(make_scene(seed, duration_s=3.0, class_name=class_name), rate)
        assert sound.shape == (3 * rate,)
        assert sound.dtype == np.float32
        assert np.abs(sound).max() <= 0.9
        if class_name != "silence":
            assert np.abs(sound).max() > 0.05


@pytest.mark.parametrize("class_name", sorted(IMPACT_CLASSES))
def test_sound_sets_in_within_2_ms_of_each_event(class_name: str):
    for seed in range(6):
        scene = make_scene(seed, class_name=class_name)
        sound = make_sound(scene, RATE)
        for event in scene.events:
            assert steepest_rise_s(sound, event.time_s) == pytest.approx(event.time_s, abs=0.002), (seed, event)


@pytest.mark.parametrize("class_name", sorted(IMPACT_CLASSES))
def test_nothing_is_heard_before_the_first_event(class_name: str):
    scene = make_scene(4, class_name=class_name)
    before = make_sound(scene, RATE)[: int(scene.events[0].time_s * RATE)]
    assert np.abs(before).max() < 1e-3


def test_silence_is_the_noise_floor_alone():
    sound = make_sound(make_scene(1, class_name="silence"), RATE)
    assert 0 < np.abs(sound).max() < 1e-3


def test_a_harder_blow_is_louder_and_brighter():
    body = make_body(np.random.default_rng(0), "wood")
    hits = [
        strike_sound(np.random.default_rng(1), body, [Event(0.1, strength)], RATE, RATE)
        for strength in (0.25, 0.5, 1.0)
    ]
    levels = [float(np.abs(hit).max()) for hit in hits]
    assert levels == sorted(levels)
    assert levels[2] > 3 * levels[0]
    brightness = [centroid_hz(hit) for hit in hits]
    assert brightness == sorted(brightness)


def test_materials_differ_in_spectrum_and_in_how_long_they_ring():
    rng = np.random.default_rng(0)
    centre, ring = {}, {}
    for material in ("rubber", "wood", "metal", "glass"):
        bodies = [make_body(rng, material) for _ in range(10)]
        hits = [strike_sound(rng, body, [Event(0.0, 1.0)], 2 * RATE, RATE) for body in bodies]
        centre[material] = [centroid_hz(hit) for hit in hits]
        ring[material] = [float(np.sqrt((hit[RATE // 4 :] ** 2).sum() / (hit**2).sum())) for hit in hits]
    assert max(centre["rubber"]) < min(centre["wood"])
    assert max(centre["wood"]) < min(centre["metal"])
    assert max(centre["metal"]) < min(centre["glass"])
    assert min(ring["metal"]) > 10 * max(ring["wood"])


def test_the_engine_pitch_follows_the_speed():
    for seed in range(4):
        scene = make_scene(seed, class_name="engine")
        sound = make_sound(scene, RATE)
        speeds, pitches, wanted = [], [], []
        for start_s in np.arange(0.25, 7.5, 0.25):
            part = sound[int(start_s * RATE) :][: RATE // 8]
            power = np.abs(np.fft.rfft(part * np.hanning(len(part)), 8 * len(part)))
            pitches.append(float(np.argmax(power)))
            speeds.append(float(scene.subject.speed.at(start_s + 1 / 16)))
            wanted.append(float(scene.subject.frequency_hz(start_s + 1 / 16)))
        assert np.corrcoef(speeds, pitches)[0, 1] > 0.9, seed
        assert np.median(np.abs(np.array(pitches) / wanted - 1)) < 0.05


def test_the_wind_is_louder_and_brighter_in_a_gust():
    scene = make_scene(2, class_name="wind")
    sound = make_sound(scene, RATE)
    times = np.arange(0, 7.75, 0.25)
    parts = [sound[int(time * RATE) :][: RATE // 4] for time in times]
    gusts = scene.subject.gust.at(times + 0.125)
    assert np.corrcoef(gusts, [part.std() for part in parts])[0, 1] > 0.9
    assert np.corrcoef(gusts, [centroid_hz(part) for part in parts])[0, 1] > 0.7


def test_filtered_noise_has_the_spectrum_asked_for():
    noise = filtered_noise(np.random.default_rng(0), 4 * RATE, RATE, [(100, -40), (1000, 0), (4000, -40)])
    power = np.abs(np.fft.rfft(noise)) ** 2
    frequency = np.fft.rfftfreq(len(noise), 1 / RATE)

    def level_db(hz: float) -> float:
        return float(10 * np.log10(power[(frequency > 0.95 * hz) & (frequency < 1.05 * hz)].mean()))

    assert noise.std() == pytest.approx(1.0, abs=0.01)
    assert level_db(1000) - level_db(2000) == pytest.approx(20, abs=3)
    assert level_db(1000) - level_db(100) == pytest.approx(40, abs=4)


def test_harmonics_above_half_the_rate_are_left_out():
    tone = harmonic_tone(np.full(RATE, 3000.0), (1.0, 1.0, 1.0), RATE)
    power = np.abs(np.fft.rfft(tone)) ** 2
    assert power[3000] > 0.1 * power.sum()
    assert power[7000] < 1e-6 * power.sum()  # 3 * 3000 Hz would fold to 7000 Hz


def test_the_sound_does_not_depend_on_what_is_seen():
    scene = make_scene(5, class_name="drum")
    elsewhere = replace(scene, setting=make_scene(6).setting)
    assert np.array_equal(make_sound(scene, RATE), make_sound(elsewhere, RATE))
