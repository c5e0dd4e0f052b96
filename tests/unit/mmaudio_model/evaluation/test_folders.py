from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from mmaudio_model.cli.eval import eval_
from mmaudio_model.errors import MediaInvalidError, RequestInvalidError
from mmaudio_model.evaluation.divergence import inception_score, kl_divergence
from mmaudio_model.evaluation.folders import pair_files
from mmaudio_model.evaluation.sounds import read_sound
from mmaudio_model.media.audio import Sound, write_audio
from mmaudio_model.procedural_world.scene import make_scene
from mmaudio_model.procedural_world.sound import make_sound


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two clips: generated 30 ms late and at another rate and format than the reference; and one file more."""
    generated, reference = tmp_path_factory.mktemp("generated"), tmp_path_factory.mktemp("reference")
    for name in ("drum", "ball_wood"):
        scene = make_scene(1, duration_s=4.0, class_name=name)
        write_audio(reference / f"{name}.flac", Sound.mono(make_sound(scene, 44_100), 44_100), "flac")
        late = np.concatenate([make_sound(scene, 16_000)[:480] * 0, make_sound(scene, 16_000)])
        write_audio(generated / f"{name}.wav", Sound.mono(late, 16_000), "wav")
    write_audio(generated / "alone.wav", Sound.mono(np.zeros(16_000, dtype=np.float32), 16_000), "wav")
    return generated, reference


def test_a_folder_is_judged_against_another(folders: tuple[Path, Path], tmp_path: Path):
    labels, output = tmp_path / "labels.json", tmp_path / "report.json"
    labels.write_text(json.dumps({"drum": "drum", "ball_wood": "ball_glass", "elsewhere": "rain"}))
    result = CliRunner().invoke(
        eval_, ["folders", *map(str, folders), "--labels", str(labels), "--output", str(output)]
    )
    assert result.exit_code == 0, result.output
    assert "onset F1" in result.output
    assert "Warning: not compared, because only in" in result.stderr
    assert ": alone\n" in result.stderr
    report = json.loads(output.read_text())
    assert (report["pairs"], report["only_generated"], report["only_reference"]) == (2, ["alone"], [])
    assert report["onsets"]["f1"] >= 0.95
    assert report["onsets"]["delay_median_s"] == pytest.approx(0.03, abs=0.005)
    assert (report["labelled"], report["class_accuracy"]) == (2, 0.5)
    assert report["classifier_kl"] < 0.1


def test_the_report_can_be_printed_as_json(folders: tuple[Path, Path]):
    result = CliRunner().invoke(eval_, ["folders", *map(str, folders), "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["pairs"] == 2


def test_folders_without_a_common_name_are_refused(folders: tuple[Path, Path], tmp_path: Path):
    result = CliRunner().invoke(eval_, ["folders", str(folders[0]), str(tmp_path)])
    assert result.exit_code == 2
    assert "No file of" in result.output


def test_labels_that_are_no_object_are_refused(folders: tuple[Path, Path], tmp_path: Path):
    labels = tmp_path / "labels.json"
    labels.write_text("[1]")
    result = CliRunner().invoke(eval_, ["folders", *map(str, folders), "--labels", str(labels)])
    assert result.exit_code == 1
    assert "must be one object" in result.output


def test_two_files_of_one_name_are_refused(tmp_path: Path):
    for name in ("a.wav", "a.flac"):
        (tmp_path / name).touch()
    with pytest.raises(RequestInvalidError, match="have the same name"):
        pair_files(tmp_path, tmp_path)


def test_a_file_without_sound_is_named(tmp_path: Path):
    path = tmp_path / "noise.wav"
    path.write_bytes(b"not a sound")
    with pytest.raises(MediaInvalidError, match=r"noise\.wav"):
        read_sound(path)


def test_an_unknown_part_is_refused_before_anything_is_loaded():
    result = CliRunner().invoke(eval_, ["world", "--parts", "video,smell"])
    assert result.exit_code == 2
    assert "smell" in result.output


def test_kl_is_that_of_the_formula_and_zero_for_the_same():
    half, sure = np.array([[0.5, 0.5]]), np.array([[0.75, 0.25]])
    assert kl_divergence(half, half) == 0
    expected = 0.75 * np.log(0.75 / 0.5) + 0.25 * np.log(0.25 / 0.5)
    assert kl_divergence(sure, half) == pytest.approx(expected, abs=1e-4)
    assert kl_divergence(half, sure) != pytest.approx(expected, abs=1e-3)
    with pytest.raises(RequestInvalidError, match=r"\(1, 2\)"):
        kl_divergence(half, np.zeros((2, 2)))


def test_inception_score_is_the_number_of_classes_that_are_told_apart():
    assert inception_score(np.eye(4)) == pytest.approx(4, abs=1e-3)
    assert inception_score(np.full((5, 4), 0.25)) == pytest.approx(1)
    assert inception_score(np.tile([1.0, 0, 0], (5, 1))) == pytest.approx(1)
