"""What a caller may rely on when requests become sound. tiny_16k has every part of the published model, small."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest
import torch

from mmaudio_model.errors import ModelFaultError, RequestInvalidError
from mmaudio_model.features import Features
from mmaudio_model.media.frames import VideoFrames
from mmaudio_model.pipeline import GenerationRequest, Pipeline, text_is_cut
from tests.noise_frames import TINY, moving_picture, noise, still_picture

SAME = 1e-5
PLAIN = GenerationRequest(duration_s=1.0, seed=1, prompt="a dog barks", num_steps=3)
MIXED_BATCH = [
    PLAIN,
    replace(PLAIN, seed=2, prompt="rain", negative_prompt="music", video=moving_picture(1.0)),
    replace(PLAIN, seed=3, cfg_strength=2.5, image=still_picture()),
    replace(PLAIN, seed=4, prompt="", negative_prompt=None, video=moving_picture(1.0, seed=5), mask_away_clip=True),
]


def sound(pipeline: Pipeline, request: GenerationRequest) -> np.ndarray:
    (waveform,) = pipeline.generate([request])
    assert waveform is not None
    return waveform


@pytest.fixture(scope="module")
def plain(tiny: Pipeline) -> np.ndarray:
    """Return the sound of PLAIN."""
    return sound(tiny, PLAIN)


def distance(found: np.ndarray | None, expected: np.ndarray) -> float:
    """Return the relative L2 distance."""
    assert found is not None
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.mark.parametrize("duration_s", [0.32, 0.64, 1.0, 1.6])
def test_a_batch_gives_each_request_the_sound_it_has_alone_bit_by_bit(tiny: Pipeline, duration_s: float) -> None:
    batch = [replace(request, duration_s=duration_s, num_steps=2) for request in MIXED_BATCH]
    together = tiny.generate(batch)

    for request, waveform in zip(batch, together, strict=True):
        assert np.array_equal(waveform, sound(tiny, request))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_sound_with_a_sample_that_is_no_number_is_a_fault_of_the_model(
    tiny: Pipeline, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    decode = tiny._networks.vae.decode

    def broken(latent: torch.Tensor) -> torch.Tensor:
        mel = decode(latent)
        mel[0, 0, 3] = value
        return mel

    monkeypatch.setattr(tiny._networks.vae, "decode", broken)
    with pytest.raises(ModelFaultError, match=r"\d+ of 16000 samples as NaN or infinite"):
        tiny.generate([PLAIN])


def test_features_used_again_give_the_same_sound_bit_by_bit_and_need_no_frames(tiny: Pipeline) -> None:
    fresh = tiny.encode(MIXED_BATCH)
    again = [
        replace(request, video=None, image=None, features=features.cpu())
        for request, features in zip(MIXED_BATCH, fresh.features, strict=True)
    ]

    expected = tiny.vocode(tiny.sample(fresh))
    for waveform, other in zip(tiny.generate(again), expected, strict=True):
        assert np.array_equal(waveform, other)


def test_what_several_requests_of_a_batch_show_and_say_is_encoded_once() -> None:
    pipeline = Pipeline.load(TINY)
    runs: list[str] = []
    for part in ("clip_image", "clip_text", "sync"):
        network = getattr(pipeline._networks, part)
        network.register_forward_hook(lambda *_, part=part: runs.append(part))
    takes = [replace(PLAIN, seed=seed, video=moving) for seed, moving in enumerate([moving_picture(1.0)] * 3)]
    takes.append(replace(takes[0], prompt="rain"))

    pipeline.encode(takes)

    assert sorted(runs) == ["clip_image", "clip_text", "clip_text", "clip_text", "sync"]


def test_features_of_a_wrong_shape_are_refused(tiny: Pipeline) -> None:
    with pytest.raises(RequestInvalidError, match=r"text features of shape \(3, 4\)"):
        tiny.encode([replace(PLAIN, features=Features(text=torch.zeros(3, 4)))])


def test_requests_that_leave_the_batch_change_nothing_for_the_others(tiny: Pipeline) -> None:
    leaving = {1: [0], 3: [2, 3]}
    latents = tiny.sample(tiny.encode(MIXED_BATCH), on_step=lambda step, _: leaving.get(step))
    waveforms = tiny.vocode(latents)

    assert latents.rows == (1,)
    assert [waveform is None for waveform in waveforms] == [True, False, True, True]
    assert waveforms[1] is not None
    assert np.array_equal(waveforms[1], sound(tiny, MIXED_BATCH[1]))


def test_sampling_stops_when_everyone_has_left(tiny: Pipeline) -> None:
    seen: list[int] = []

    def on_step(step: int, _: int) -> Collection[int]:
        seen.append(step)
        return [0, 1] if step == 2 else []

    waveforms = tiny.generate(MIXED_BATCH[:2], on_step=on_step)

    assert seen == [1, 2]
    assert waveforms == [None, None]


def test_the_same_seed_gives_the_same_sound_bit_by_bit(tiny: Pipeline) -> None:
    request = MIXED_BATCH[1]

    assert np.array_equal(sound(tiny, request), sound(tiny, request))


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 9},
        {"prompt": "a siren"},
        {"negative_prompt": "speech"},
        {"cfg_strength": 2.0},
        {"num_steps": 5},
        {"video": moving_picture(1.0, seed=7)},
        {"image": still_picture(seed=7)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_everything_that_may_be_asked_for_changes_the_sound(tiny: Pipeline, plain: np.ndarray, change: dict) -> None:
    assert distance(sound(tiny, replace(PLAIN, **change)), plain) > 100 * SAME


def test_masking_frames_away_leaves_only_their_timing(tiny: Pipeline) -> None:
    shown = moving_picture(1.0)
    other_pictures = replace(shown, clip=noise(8, len(shown.clip), TINY.clip.frame_size))
    other_timing = replace(shown, sync=noise(9, len(shown.sync), TINY.sync.frame_size))
    masked = replace(PLAIN, video=shown, mask_away_clip=True)
    expected = sound(tiny, masked)

    assert np.array_equal(sound(tiny, replace(masked, video=other_pictures)), expected)
    assert distance(sound(tiny, replace(masked, video=other_timing)), expected) > 100 * SAME


def test_without_guidance_the_negative_prompt_says_nothing(tiny: Pipeline) -> None:
    unguided = replace(PLAIN, cfg_strength=0.9)

    assert np.array_equal(sound(tiny, replace(unguided, negative_prompt="music")), sound(tiny, unguided))


def test_what_a_step_callback_raises_goes_through(tiny: Pipeline) -> None:
    class StopError(Exception):
        pass

    def on_step(step: int, num_steps: int) -> None:
        assert num_steps == PLAIN.num_steps
        if step == 2:
            raise StopError

    with pytest.raises(StopError):
        tiny.generate([PLAIN], on_step=on_step)


def test_stages_are_told_in_order_and_every_step_counts(tiny: Pipeline) -> None:
    told: list[object] = []

    tiny.generate([PLAIN], on_stage=told.append, on_step=lambda step, num_steps: told.append((step, num_steps)))

    assert told == ["encode", "sample", (1, 3), (2, 3), (3, 3), "vocode"]


@pytest.mark.parametrize("duration_s", [0.32, 0.64, 2, 5.3, 9.1])
def test_the_sound_is_as_long_as_asked_for_and_can_be_heard(tiny: Pipeline, duration_s: float) -> None:
    request = replace(PLAIN, duration_s=duration_s, num_steps=1, video=moving_picture(duration_s))
    waveform = sound(tiny, request)

    assert waveform.dtype == np.float32
    assert waveform.shape == (round(duration_s * 16_000),)
    assert np.isfinite(waveform).all()
    assert 0.01 < waveform.std() < 0.5
    assert (np.abs(waveform) > 0.99).mean() < 0.01


def test_a_video_that_ends_early_goes_on_with_its_last_frame(tiny: Pipeline) -> None:
    whole = moving_picture(1.0)
    cut = VideoFrames(clip=whole.clip[:3], sync=whole.sync[:5], duration_s=0.2)
    held = VideoFrames(
        clip=whole.clip[np.minimum(np.arange(8), 2)], sync=whole.sync[np.minimum(np.arange(25), 4)], duration_s=1.0
    )

    assert np.array_equal(sound(tiny, replace(PLAIN, video=cut)), sound(tiny, replace(PLAIN, video=held)))


def test_requests_of_two_lengths_may_be_encoded_before_either_is_sampled(tiny: Pipeline) -> None:
    short, long = PLAIN, replace(PLAIN, duration_s=1.5)
    encoded = {request.duration_s: tiny.encode([request]) for request in (short, long)}

    for request in (long, short):
        (waveform,) = tiny.vocode(tiny.sample(encoded[request.duration_s]))
        assert distance(waveform, sound(tiny, request)) <= SAME


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"duration_s": 0.1}, "tiny_16k makes 0.32 to 30 s"),
        ({"duration_s": 31.0}, "tiny_16k makes 0.32 to 30 s"),
        ({"duration_s": float("nan")}, "duration of nan"),
        ({"num_steps": 0}, "Got 0 steps"),
        ({"cfg_strength": float("inf")}, "finite"),
        ({"seed": 2**64}, "64 bits"),
        ({"video": moving_picture(1.0), "image": still_picture()}, "a video and an image"),
        ({"image": replace(still_picture(), clip=noise(0, 1, 32))}, r"image.clip of shape \(1, 32, 32, 3\)"),
        ({"video": replace(moving_picture(1.0), sync=noise(0, 0, 112))}, "video.sync .* at least one frame"),
        ({"video": replace(moving_picture(1.0), clip=np.zeros((8, 96, 96, 3)))}, "type float64"),
    ],
)
def test_a_request_that_cannot_be_served_is_refused_with_what_is_allowed(
    tiny: Pipeline, change: dict, said: str
) -> None:
    with pytest.raises(RequestInvalidError, match=said):
        tiny.encode([replace(PLAIN, **change)])


@pytest.mark.parametrize("change", [{"duration_s": 2.0}, {"num_steps": 5}, {"cfg_strength": 0.5}])
def test_only_requests_of_one_kind_share_a_batch(tiny: Pipeline, change: dict) -> None:
    other = replace(PLAIN, **change)

    assert tiny.batch_key(other) != tiny.batch_key(PLAIN)
    with pytest.raises(RequestInvalidError, match="2 different batch keys"):
        tiny.encode([PLAIN, other])


def test_no_request_at_all_is_refused(tiny: Pipeline) -> None:
    with pytest.raises(RequestInvalidError, match="0 requests"):
        tiny.encode([])


def test_bfloat16_sounds_nearly_the_same() -> None:
    exact, rough = (Pipeline.load(TINY, precision=precision) for precision in ("fp32", "bf16"))
    request = MIXED_BATCH[1]

    assert distance(sound(rough, request), sound(exact, request)) < 0.1


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(RequestInvalidError, match="fp32, bf16, fp16"):
        Pipeline.load(TINY, precision="int3")


def test_tiny_is_small() -> None:
    parts: list[str] = []
    pipeline = Pipeline.load(TINY, on_part=parts.append)

    assert sorted(parts) == ["clip_image", "clip_text", "flow", "sync", "vae", "vocoder"]
    parameters = sum(tensor.numel() for part in pipeline._networks.parts().values() for tensor in part.parameters())
    assert parameters <= 12_000_000


def test_global_randomness_neither_matters_nor_moves(tiny: Pipeline, plain: np.ndarray) -> None:
    before = torch.get_rng_state()
    torch.manual_seed(123)
    state = torch.get_rng_state()
    try:
        assert np.array_equal(sound(tiny, PLAIN), plain)
        assert torch.equal(torch.get_rng_state(), state)
    finally:
        torch.set_rng_state(before)


def test_a_text_longer_than_clip_reads_is_noticed() -> None:
    assert text_is_cut("word " * 76)
    assert not text_is_cut("word " * 75)
