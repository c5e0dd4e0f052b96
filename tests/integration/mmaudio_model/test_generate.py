"""`mmaudio generate`, with the real small model."""

from __future__ import annotations

import json
from pathlib import Path

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from mmaudio_model import local_run
from mmaudio_model.checkpoints.bundled import SHIPPED, read_part, write_part
from mmaudio_model.checkpoints.layout import PARTS
from mmaudio_model.cli.generate import generate
from mmaudio_model.pipeline import Pipeline

VIDEO = Path(__file__).parents[2] / "data" / "parity" / "videos" / "v25.mp4"
IMAGE = VIDEO.parents[1] / "images" / "tiny.png"
QUICK = ("--variant", "tiny_16k", "--num-steps", "2")
EXACT = ("--reference-exact", "--duration", "2")


def run(output: Path, *arguments: str) -> Result:
    return CliRunner().invoke(generate, [*QUICK, "--output", str(output), *arguments])


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def test_a_video_gives_a_sound_file_and_the_video_with_it(tmp_path: Path) -> None:
    result = run(tmp_path, "--video", str(VIDEO), "--prompt", "steps")

    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["v25.flac", "v25.mp4"]
    assert result.stdout.split() == [str(tmp_path / "v25.flac"), str(tmp_path / "v25.mp4")]
    assert "13 sound classes" in result.stderr


def test_a_section_and_a_container_can_be_chosen(tmp_path: Path) -> None:
    result = run(
        tmp_path, "--video", str(VIDEO), "--start", "0.5", "--duration", "1", "--container", "mkv", "--channels", "2",
        "--sample-rate", "48000", "--loudness", "-20",
    )  # fmt: skip

    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["v25.flac", "v25.mkv"]
    with av.open(str(tmp_path / "v25.flac")) as container:
        stream = container.streams.audio[0]
        assert (stream.layout.name, stream.rate, stream.duration) == ("stereo", 48_000, 48_000)


def test_a_mix_of_a_video_without_sound_says_so_before_the_model_is_loaded(tmp_path: Path) -> None:
    result = run(tmp_path, "--video", str(VIDEO), "--original-audio", "mix", "--audio-files", "both", "--json")

    assert result.exit_code == 0, result.output
    assert names(tmp_path) == ["v25-effect.flac", "v25-mix.flac", "v25.mp4"]
    document = json.loads(result.stdout)
    assert document["results"][0]["sounds"] == [str(tmp_path / f"v25-{name}.flac") for name in ("effect", "mix")]
    assert any("no original sound" in warning for warning in document["warnings"])


def test_takes_have_seeds_of_their_own(tmp_path: Path) -> None:
    assert run(tmp_path / "both", "--prompt", "a hammer", "--duration", "1", "--num-samples", "2").exit_code == 0
    assert run(tmp_path / "second", "--prompt", "a hammer", "--duration", "1", "--seed", "43").exit_code == 0

    assert names(tmp_path / "both") == ["a-hammer-1.flac", "a-hammer-2.flac"]
    first, second = (sound(tmp_path / "both" / f"a-hammer-{take}.flac") for take in (1, 2))
    alone = sound(tmp_path / "second" / "a-hammer.flac")
    assert distance(first, second) > 0.1
    assert distance(second, alone) < 1e-5  # rounding knows the size of the batch, nothing else does


@pytest.mark.parametrize("audio_format", ["flac", "wav", "mp3", "opus", "m4a"])
def test_each_sound_format_can_be_read_again(tmp_path: Path, audio_format: str) -> None:
    assert run(tmp_path, "--prompt", "rain", "--duration", "1", "--audio-format", audio_format).exit_code == 0
    assert len(sound(tmp_path / f"rain.{audio_format}")) >= 16_000


@pytest.mark.parametrize("letter", ["x", "雨", "𝕳"])
def test_a_long_prompt_gives_a_name_that_a_file_may_have(tmp_path: Path, letter: str) -> None:
    result = run(tmp_path, "--prompt", letter * 300, "--duration", "1")

    assert result.exit_code == 0, result.output
    (name,) = names(tmp_path)
    assert set(name.removesuffix(".flac")) == {letter}


def test_stages_are_dumped_batch_first(tmp_path: Path) -> None:
    dump = tmp_path / "intermediates.npz"
    result = run(tmp_path, "--video", str(VIDEO), *EXACT, "--num-samples", "2", "--dump-intermediates", str(dump))

    assert result.exit_code == 0, result.output
    with np.load(dump) as arrays:
        shapes = {name: arrays[name].shape for name in arrays}
        assert {arrays[name].dtype for name in arrays} == {np.dtype(np.float32)}
        assert 0 <= arrays["clip_frames"].min() < arrays["clip_frames"].max() <= 1
        assert -1 <= arrays["sync_frames"].min() < 0 < arrays["sync_frames"].max() <= 1
    assert shapes == {
        "clip_frames": (2, 16, 3, 96, 96),
        "sync_frames": (2, 57, 3, 80, 80),
        "clip_features": (2, 16, 64),
        "sync_features": (2, 56, 128),
        "text_features": (2, 77, 32),
        "negative_text_features": (2, 77, 32),
        "noise": (2, 63, 20),
        "latent": (2, 63, 20),
        "latent_denormalised": (2, 63, 20),
        "mel": (2, 80, 126),
        "waveform": (2, 32_256),
    }


def test_what_was_not_encoded_is_not_dumped(tmp_path: Path) -> None:
    dump = tmp_path / "intermediates.npz"
    assert run(tmp_path, "--image", str(IMAGE), "--duration", "1", "--dump-intermediates", str(dump)).exit_code == 0

    with np.load(dump) as arrays:
        assert arrays["clip_features"].shape == (1, 1, 64)
        assert "sync_features" not in arrays


def test_exactly_as_published_the_sound_is_not_trimmed(tmp_path: Path) -> None:
    assert run(tmp_path / "ours", "--video", str(VIDEO), "--duration", "2").exit_code == 0
    assert run(tmp_path / "exact", "--video", str(VIDEO), *EXACT).exit_code == 0

    assert len(sound(tmp_path / "ours" / "v25.flac")) == 32_000
    assert len(sound(tmp_path / "exact" / "v25.flac")) == 32_256


def test_a_picture_that_the_published_program_cannot_read_is_refused_only_on_request(tmp_path: Path) -> None:
    from PIL import Image

    grey = tmp_path / "grey.png"
    Image.new("L", (40, 40), 128).save(grey)

    assert run(tmp_path / "ours", "--image", str(grey), "--duration", "1").exit_code == 0
    refused = run(tmp_path / "exact", "--image", str(grey), "--duration", "1", "--reference-exact")
    assert refused.exit_code == 1
    assert "only RGB" in refused.stderr
    assert names(tmp_path / "exact") == []


@pytest.mark.parametrize("interrupted", ["write_audio", "mux_video"])
def test_ctrl_c_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, interrupted: str) -> None:
    whole = getattr(local_run, interrupted)

    def press_ctrl_c(*args: object, **kwargs: object) -> None:
        whole(*args, **kwargs)
        raise KeyboardInterrupt

    monkeypatch.setattr(local_run, interrupted, press_ctrl_c)
    result = run(tmp_path, "--video", str(VIDEO))

    assert result.exit_code == 1
    assert names(tmp_path) == []


def test_full_precision_wins_over_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    load = Pipeline.load

    def noted(*args: object, precision: str, **kwargs: object) -> Pipeline:
        asked.append(precision)
        return load(*args, precision=precision, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Pipeline, "load", noted)
    short = ("--prompt", "rain", "--duration", "0.4")
    for precision in ("bf16", "fp16", "fp32"):
        assert run(tmp_path, *short, "--precision", precision).exit_code == 0
    assert run(tmp_path, *short, "--precision", "bf16", "--full-precision").exit_code == 0

    assert asked == ["bf16", "fp16", "fp32", "fp32"]


def test_a_later_run_keeps_earlier_results(tmp_path: Path) -> None:
    arguments = ("--prompt", "rain", "--duration", "1")
    runs = [run(tmp_path, *arguments, *more) for more in ((), (), ("--overwrite",))]

    assert [result.stdout for result in runs] == [
        f"{tmp_path / name}\n" for name in ("rain.flac", "rain-2.flac", "rain.flac")
    ]
    assert names(tmp_path) == ["rain-2.flac", "rain.flac"]


def test_json_has_the_result_and_the_warnings(tmp_path: Path) -> None:
    result = run(tmp_path, "--video", str(VIDEO), "--duration", "8", "--num-samples", "2", "--json")

    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    document = json.loads(result.stdout)
    assert document["variant"] == "tiny_16k"
    duration_s = document["results"][0]["duration_s"]
    assert document["results"] == [
        {
            "sound": str(tmp_path / f"v25-{take}.flac"),
            "video": str(tmp_path / f"v25-{take}.mp4"),
            "seed": 41 + take,
            "duration_s": duration_s,
        }
        for take in (1, 2)
    ]
    assert len(sound(tmp_path / "v25-1.flac")) == round(duration_s * 16_000)
    (warning,) = document["warnings"]
    assert "s of the requested 8 s" in warning
    assert set(document["weights"]) == set(PARTS)


def test_a_fine_tuned_part_is_used_and_named(tmp_path: Path) -> None:
    weights_dir = tmp_path / "weights"
    flow = weights_dir / "tiny_16k" / "flow.safetensors"
    arguments = ("--prompt", "rain", "--duration", "1")
    tensors = read_part(SHIPPED / "tiny_16k" / "flow.safetensors")
    write_part(flow, {name: tensor * 0.9 for name, tensor in tensors.items()}, {})
    assert run(tmp_path / "bundled", *arguments).exit_code == 0
    tuned = run(tmp_path / "tuned", *arguments, "--weights", str(weights_dir))

    assert tuned.exit_code == 0, tuned.output
    assert (
        f"Weights: flow from {weights_dir}; clip_text, clip_image, sync, vae, vocoder from the package." in tuned.stderr
    )
    assert distance(sound(tmp_path / "tuned" / "rain.flac"), sound(tmp_path / "bundled" / "rain.flac")) > 0.01


def test_the_dumped_file_is_replaced_only_on_request(tmp_path: Path) -> None:
    dump = tmp_path / "intermediates.npz"
    dump.write_bytes(b"earlier")
    arguments = ("--prompt", "rain", "--duration", "1", "--dump-intermediates", str(dump))

    assert run(tmp_path / "output", *arguments).exit_code == 2
    assert dump.read_bytes() == b"earlier"
    assert run(tmp_path / "output", *arguments, "--overwrite").exit_code == 0
    assert dump.read_bytes() != b"earlier"


def sound(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.concatenate([frame.to_ndarray().ravel() for frame in container.decode(audio=0)])


def distance(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.linalg.norm(a.astype(float) - b) / np.linalg.norm(b.astype(float)))
