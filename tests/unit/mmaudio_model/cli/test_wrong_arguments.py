"""What cannot work is refused before a model is loaded: devices, weights folders, files, output, numbers."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from click.testing import CliRunner, Result

from mmaudio_model.cli.eval import eval_
from mmaudio_model.cli.generate import generate
from mmaudio_model.cli.gradio import gradio
from mmaudio_model.cli.train import train
from mmaudio_model.cli.weights import weights
from mmaudio_model.pipeline import Pipeline

ROOTS = {"eval": eval_, "generate": generate, "gradio": gradio, "train": train, "weights": weights}
# Commands that load weights onto a device, complete but for what a test adds.
WITH_DEVICE = {
    "generate": "generate --prompt rain --output {tmp}/output",
    "eval world": "eval world",
    "gradio": "gradio --variant tiny_16k --output {tmp}/output",
    "train finetune": "train finetune --variant tiny_16k --clips {tmp} --run {tmp}/run",
}
WITH_WEIGHTS = {
    **WITH_DEVICE,
    "train merge-lora": "train merge-lora --variant tiny_16k --adapter {tmp} --output {tmp}/merged",
}
# Commands and the option for their results.
WITH_OUTPUT = {
    "generate": "generate --prompt rain --output {out}",
    "generate dump": "generate --prompt rain --output {tmp}/output --dump-intermediates {out}/all.npz",
    "eval world": "eval world --output {out}/report.json",
    "eval train-classifier": "eval train-classifier --output {out}/classifier.safetensors",
    "eval folders": "eval folders {tmp} {tmp} --output {out}/report.json",
    "gradio": "gradio --output {out}",
    "train prepare": "train prepare --variant tiny_16k --videos {tmp} --clips {out}",
    "train finetune": "train finetune --variant tiny_16k --clips {tmp} --run {out}",
    "train merge-lora": "train merge-lora --variant tiny_16k --adapter {tmp} --output {out}",
    "train world": "train world --run {out}",
}


@pytest.fixture(autouse=True)
def nothing_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without GPUs on which loading a model fails the test."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("a model was loaded")

    monkeypatch.setattr(Pipeline, "load", load)
    monkeypatch.setattr("mmaudio_model.cli.gradio.check_port_free", lambda *_: None)
    layout = ModuleType("layout")  # gradio takes seconds to import
    vars(layout)["build_app"] = load
    monkeypatch.setitem(sys.modules, "mmaudio_model.gradio_app.layout", layout)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


def run(line: str, *arguments: str, **places: Path) -> Result:
    root, *rest = line.format(**places).split()
    result = CliRunner().invoke(ROOTS[root], [*rest, *arguments])
    assert isinstance(result.exception, SystemExit), result.exception
    return result


@pytest.mark.parametrize("name", WITH_DEVICE)
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps", "foo"])
def test_a_device_that_is_not_there_is_one_sentence(tmp_path: Path, name: str, device: str) -> None:
    result = run(WITH_DEVICE[name], "--device", device, tmp=tmp_path)

    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    assert device in line
    assert result.stdout == ""


@pytest.mark.parametrize("name", WITH_WEIGHTS)
@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("nowhere", "does not exist"),
        ("file", "is a file, not a folder"),
        ("run", "Did you mean {tmp}/run/weights?"),
        ("run/weights/tiny_16k", "Did you mean {tmp}/run/weights?"),
        ("empty", "holds nothing"),
        ("adapter", "mmaudio train merge-lora --variant tiny_16k --adapter {tmp}/adapter"),
    ],
)
@pytest.mark.parametrize("how", ["option", "environment"])
def test_a_wrong_weights_folder_is_never_ignored(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, given: str, hint: str, how: str
) -> None:
    for folder in ("run/weights/tiny_16k", "empty", "adapter"):
        (tmp_path / folder).mkdir(parents=True)
    for file in ("run/weights/tiny_16k/flow.safetensors", "file", "adapter/adapter_config.json"):
        (tmp_path / file).write_bytes(b"weights")
    arguments = ["--weights", str(tmp_path / given)] if how == "option" else []
    if how == "environment":
        monkeypatch.setenv("MMAUDIO_WEIGHTS_DIR", str(tmp_path / given))
    result = run(WITH_WEIGHTS[name], *arguments, tmp=tmp_path)

    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith(f"Error: The weights folder {tmp_path / given} ")
    assert hint.format(tmp=tmp_path) in line


@pytest.mark.parametrize("name", WITH_OUTPUT)
def test_output_that_cannot_be_written_is_refused_before_the_run(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    result = run(WITH_OUTPUT[name], tmp=tmp_path, out=tmp_path / "file" / "folder")

    assert result.exit_code == 2
    line = result.stderr.splitlines()[-1]
    assert line.startswith("Error: Cannot write to ")
    assert line.endswith("file is a file, not a folder.")


@pytest.mark.parametrize("option", ["--video", "--image"])
@pytest.mark.parametrize(("given", "reason"), [("nowhere.mp4", "does not exist"), (".", "is a directory")])
def test_an_input_that_is_no_file_is_refused(tmp_path: Path, option: str, given: str, reason: str) -> None:
    result = run("generate", option, str(tmp_path / given))

    assert result.exit_code == 2
    assert reason in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize(
    "line",
    [
        "generate --prompt rain --duration {number}",
        "generate --prompt rain --cfg-strength {number}",
        "eval world --duration {number}",
        "eval world --cfg-strength {number}",
        "train prepare --variant tiny_16k --videos {tmp} --clips {tmp} --duration {number}",
        "train finetune --variant tiny_16k --clips {tmp} --run {tmp} --learning-rate {number}",
        "train finetune --variant tiny_16k --clips {tmp} --run {tmp} --ema {number}",
    ],
)
@pytest.mark.parametrize("number", ["nan", "inf", "-1", "many"])
def test_a_number_out_of_range_is_refused(tmp_path: Path, line: str, number: str) -> None:
    result = run(line.replace("{number}", number), tmp=tmp_path)

    assert result.exit_code == 2
    assert "Invalid value for '--" in result.stderr


@pytest.mark.parametrize(
    "line",
    [
        "generate --prompt rain --duration 99 --output {tmp}/output",
        "eval world --duration 99",
        "train prepare --variant tiny_16k --videos {tmp} --clips {tmp}/clips --duration 99",
    ],
)
def test_a_duration_that_the_variant_cannot_make_is_refused(tmp_path: Path, line: str) -> None:
    result = run(line, tmp=tmp_path)

    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: Got a duration of 99 s; tiny_16k makes 0.32 to 30 s."
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("generate --prompt rain", "--weights"),
        ("generate --prompt rain", "--output"),
        ("generate --prompt rain", "--dump-intermediates"),
        ("generate", "--video"),
        ("gradio", "--output"),
        ("eval world", "--output"),
        ("train world", "--run"),
        ("weights list", "--weights"),
    ],
)
def test_an_empty_path_is_refused(line: str, option: str) -> None:
    result = run(line, option, "")

    assert result.exit_code == 2
    assert f"Invalid value for '{option}'" in result.stderr
    assert result.stderr.endswith(": it is empty; give a path.\n")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("--prompt rain --start 2", "--start needs --video."),
        ("--prompt rain --original-audio mix", "--original-audio mix needs --video."),
        ("--video {video} --duck-db 6", "--duck-db needs --original-audio mix."),
        ("--video {video} --original-gain-db -3", "--original-gain-db needs --original-audio mix."),
        ("--video {video} --audio-files both", "--audio-files both needs --original-audio mix."),
        ("--video {video} --start 2 --reference-exact", "leave --start out"),
        ("--video {video} --original-audio mix --skip-video-composite", "give --audio-files mix or both"),
        ("--prompt rain --loudness 0", "Invalid value for '--loudness'"),
        ("--prompt rain --loudness nan", "Invalid value for '--loudness'"),
        ("--prompt rain --sample-rate 12345", "Invalid value for '--sample-rate'"),
        ("--prompt rain --channels 3", "Invalid value for '--channels'"),
        ("--prompt rain --container avi", "Invalid value for '--container'"),
    ],
)
def test_options_of_results_that_do_not_go_together_are_refused(tmp_path: Path, arguments: str, problem: str) -> None:
    (tmp_path / "v.mp4").touch()
    result = run(f"generate --output {{tmp}}/output {arguments}", tmp=tmp_path, video=tmp_path / "v.mp4")

    assert result.exit_code == 2
    assert problem in result.stderr


@pytest.mark.parametrize("group", ["eval", "train"])
def test_an_unknown_command_is_json_too(group: str) -> None:
    result = run(f"{group} nothing", "--json")

    assert (result.exit_code, result.stdout) == (2, "")
    assert json.loads(result.stderr)["error"] == {"code": "usage", "message": "No such command 'nothing'."}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ((), "Give --video, --image or --prompt."),
        (("--prompt", ""), "Give --video, --image or --prompt."),
        (("--prompt", " "), "Give --video, --image or --prompt."),
        (("--video", "{file}", "--image", "{file}"), "Give --video or --image, not both."),
        (("--prompt", "rain", "--dump-intermediates", "{file}"), "{file} exists; give another file"),
        (("--video", "{file}", "--output", "{tmp}", "--overwrite"), "The result would overwrite the input {file}"),
    ],
)
def test_arguments_that_do_not_go_together_are_refused(
    tmp_path: Path, arguments: tuple[str, ...], sentence: str
) -> None:
    places = {"file": tmp_path / "rain.mp4", "tmp": tmp_path}
    places["file"].touch()
    filled = [argument.format(**places) for argument in arguments]
    text, document = run("generate", *filled), run("generate", *filled, "--json")

    assert text.exit_code == document.exit_code == 2
    assert f"Error: {sentence.format(**places)}" in text.stderr
    assert json.loads(document.stderr)["error"]["message"].startswith(sentence.format(**places))


def test_a_file_that_is_no_video_is_refused_before_the_model_is_loaded(tmp_path: Path) -> None:
    video = tmp_path / "rain.mp4"
    video.write_text("not a video")
    result = run("generate", "--video", str(video), "--output", str(tmp_path / "output"), "--json")

    assert result.exit_code == 1
    assert json.loads(result.stderr)["error"]["code"] == "media_invalid"
    assert not (tmp_path / "output").exists()
