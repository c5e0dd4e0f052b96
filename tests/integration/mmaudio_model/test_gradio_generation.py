"""What a button of the page does, with the real tiny_16k at few steps."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from PIL import Image

from mmaudio_model.errors import MediaInvalidError, RequestInvalidError
from mmaudio_model.gradio_app.generation import MAX_SEED, Form, SoundGenerator, parse_form, unique_stem
from mmaudio_model.pipeline import GenerationRequest, Pipeline

QUICK = Form(prompt="rain", seed=7, num_steps=2, duration_s=1.0)
BROKEN = Path("tests/data/media/bad/jpeg_renamed.mp4")


def samples(path: Path) -> np.ndarray:
    """Return a sound file's samples."""
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray() for frame in container.decode(audio=0)], axis=1)


def test_the_knobs_reach_the_model_as_they_were_set() -> None:
    form = Form("rain", "music", seed=7, num_steps=3, cfg_strength=2.5, duration_s=4.0)

    generation_options, duration_s = parse_form(form)

    assert (generation_options.prompt, generation_options.negative_prompt, generation_options.seed) == (
        "rain",
        "music",
        7,
    )
    assert (generation_options.num_steps, generation_options.cfg_strength, duration_s) == (3, 2.5, 4.0)


def test_the_fields_begin_as_the_published_page_has_them() -> None:
    generation_options, duration_s = parse_form(Form())

    assert (generation_options.num_steps, generation_options.cfg_strength, duration_s) == (25, 4.5, 8.0)


def test_a_seed_of_minus_one_is_drawn_anew_each_time() -> None:
    seeds = {parse_form(Form(seed=-1))[0].seed for _ in range(20)}

    assert len(seeds) == 20
    assert all(0 <= seed <= MAX_SEED for seed in seeds)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"seed": -2}, r"Got a seed of -2; it must be from -1"),
        ({"seed": MAX_SEED + 1}, "seed"),
        ({"seed": None}, "The seed is empty"),
        ({"num_steps": 0}, "number of steps of 0; it must be from 1 to 100"),
        ({"num_steps": 101}, "number of steps"),
        ({"num_steps": None}, "The number of steps is empty"),
        ({"cfg_strength": float("nan")}, "guidance strength of nan"),
        ({"cfg_strength": None}, "The guidance strength is empty"),
        ({"duration_s": None}, "The duration is empty"),
        ({"duration_s": 31.0}, "Got a duration of 31 s"),
        ({"duration_s": float("nan")}, "Got a duration of nan s"),
    ],
)
def test_a_field_that_cannot_be_served_is_named(
    generator: SoundGenerator, change: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(RequestInvalidError, match=sentence):
        generator.generate(replace(QUICK, **change))


def test_the_seed_that_is_shown_makes_the_same_sound_again(generator: SoundGenerator) -> None:
    first = generator.generate(replace(QUICK, seed=-1))
    again = generator.generate(replace(QUICK, seed=first.seed))

    assert again.sound != first.sound
    assert np.array_equal(samples(first.sound), samples(again.sound))


def test_results_have_names_of_their_own(generator: SoundGenerator) -> None:
    made = [generator.generate(QUICK).sound for _ in range(2)]

    assert len({unique_stem() for _ in range(1000)}) == 1000
    assert sorted(made[0].parent.iterdir()) == sorted(made)


def test_two_at_once_of_different_lengths_do_not_mix(generator: SoundGenerator) -> None:
    short, long = replace(QUICK, duration_s=0.64), replace(QUICK, duration_s=2.0)
    alone = [samples(generator.generate(form).sound) for form in (short, long)]

    with ThreadPoolExecutor(2) as pool:
        together = [samples(made.sound) for made in pool.map(generator.generate, (short, long))]

    assert [sound.shape[1] for sound in together] == [10_240, 32_000]
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


def test_one_at_a_time_has_the_device(tiny: Pipeline, tmp_path: Path) -> None:
    busy, clashes = threading.Lock(), []

    class Watched:
        variant = tiny.variant

        def generate(self, requests: list[GenerationRequest], **callbacks: Any) -> Any:
            if not busy.acquire(blocking=False):
                clashes.append(requests)
                raise AssertionError("two at once")
            try:
                return tiny.generate(requests, **callbacks)
            finally:
                busy.release()

    generator = SoundGenerator(Watched(), tmp_path)  # type: ignore[arg-type]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(generator.generate, [QUICK] * 3))

    assert clashes == []


def test_a_video_comes_back_with_its_sound_and_what_it_lacks_is_said(
    generator: SoundGenerator, ball_video: Path
) -> None:
    made = generator.generate(replace(QUICK, duration_s=8.0), video=ball_video)

    assert made.video is not None
    assert made.video.stem == made.sound.stem
    assert samples(made.sound).shape[1] == 16_000
    assert any("1.00 s of the requested 8 s" in warning for warning in made.warnings)
    with av.open(str(made.video)) as container:
        assert {stream.type for stream in container.streams} == {"video", "audio"}


def test_an_image_becomes_sound(generator: SoundGenerator, tmp_path: Path) -> None:
    picture = tmp_path / "red.png"
    Image.new("RGB", (40, 30), "red").save(picture)

    made = generator.generate(QUICK, image=picture)

    assert made.video is None
    assert samples(made.sound).shape[1] == 16_000


def test_words_that_are_not_read_are_said(generator: SoundGenerator) -> None:
    made = generator.generate(replace(QUICK, prompt="word " * 80))

    assert made.warnings == ("The prompt was truncated to its first 75 tokens.",)


def test_a_broken_file_is_a_sentence_and_leaves_nothing(generator: SoundGenerator, tmp_path: Path) -> None:
    with pytest.raises(MediaInvalidError, match="picture"):
        generator.generate(QUICK, video=BROKEN)
    with pytest.raises(MediaInvalidError, match="not a readable picture"):
        generator.generate(QUICK, image=Path("tests/data/media/bad/ansi_text.txt"))

    assert not (tmp_path / "made").exists()
    assert generator.generate(QUICK).sound.is_file()  # the next one is served


def test_a_device_without_memory_is_a_sentence(tiny: Pipeline, tmp_path: Path) -> None:
    class Small:
        variant = tiny.variant

        def generate(self, *_: Any, **__: Any) -> Any:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(RequestInvalidError, match="choose a shorter duration"):
        SoundGenerator(Small(), tmp_path).generate(QUICK)  # type: ignore[arg-type]


def test_progress_goes_from_reading_to_writing(generator: SoundGenerator) -> None:
    seen: list[tuple[str, int, int]] = []

    generator.generate(QUICK, on_progress=lambda *step: seen.append(step))

    assert seen == [
        ("read", 0, 2),
        ("encode", 0, 2),
        ("sample", 0, 2),
        ("sample", 1, 2),
        ("sample", 2, 2),
        ("vocode", 2, 2),
        ("write", 2, 2),
    ]
