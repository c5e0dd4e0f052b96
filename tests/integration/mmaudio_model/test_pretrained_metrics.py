from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from mmaudio_model.cli.eval import eval_
from mmaudio_model.evaluation.folders import by_stem, pair_files
from mmaudio_model.evaluation.pretrained_metrics.evaluate import Material, pretrained_metrics
from mmaudio_model.evaluation.pretrained_metrics.formulas import OFFSETS_S, frechet_distance, mean_cosine
from mmaudio_model.evaluation.sounds import read_sound
from mmaudio_model.media.audio import Sound, write_audio
from mmaudio_model.procedural_world.scene import make_scene
from mmaudio_model.procedural_world.sound import make_sound
from mmaudio_model.procedural_world.video import write_video
from tests.unit.mmaudio_model.evaluation.pretrained_metrics.networks import (
    PACKAGE,
    RATE_HZ,
    TINY,
    TinyNetwork,
    tiny,
    write_tiny_network,
)

NAMES = ("drum", "ball_wood", "rain")
DISTANCES = ("fd_panns", "kl_panns", "is_panns", "fd_passt", "kl_passt", "is_passt")
ALL = {*DISTANCES, "clap", "imagebind", "desync"}


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three generated and reference sounds, and videos of two of them."""
    root = tmp_path_factory.mktemp("clips")
    for folder in ("generated", "reference", "videos"):
        (root / folder).mkdir()
    for name in NAMES:
        scene = make_scene(1, duration_s=2.0, class_name=name)
        write_audio(root / "reference" / f"{name}.wav", Sound.mono(make_sound(scene, 16_000), 16_000), "wav")
        other = make_scene(2, duration_s=2.0, class_name=name)
        write_audio(root / "generated" / f"{name}.wav", Sound.mono(make_sound(other, 16_000), 16_000), "wav")
        if name != "rain":
            write_video(scene, root / "videos" / f"{name}.mp4", fps=25, height=48, width=64)
    return root


@pytest.fixture
def material(clips: Path) -> Material:
    pairs = pair_files(clips / "generated", clips / "reference").both
    return Material(pairs, {"drum": "a drum is beaten", "rain": "rain falls"}, by_stem(clips / "videos"))


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that is looked through for packages; what was imported of it is forgotten after."""
    monkeypatch.syspath_prepend(tmp_path / "packages")
    yield tmp_path / "packages"
    sys.modules.pop(PACKAGE, None)


def test_every_metric_is_computed_by_networks_that_are_found(material: Material, packages: Path, tmp_path: Path):
    write_tiny_network(tmp_path / "weights", packages)
    report = pretrained_metrics(material, tmp_path / "weights", adapters=TINY)
    assert (report["skipped"], report["errors"]) == ({}, {})
    assert set(report["metrics"]) == ALL
    assert report["clip_counts"] == {**dict.fromkeys(DISTANCES, 3), "clap": 2, "imagebind": 2, "desync": 2}
    network = TinyNetwork(tmp_path / "weights")

    def embedded(side: int, *stems: str) -> np.ndarray:
        sounds = [read_sound(material.pairs[stem][side], RATE_HZ) for stem in stems]
        return np.stack([network.embed_sound(sound - sound.mean()) for sound in sounds])

    stems = tuple(material.pairs)
    expected = frechet_distance(embedded(0, *stems), embedded(1, *stems))
    assert report["metrics"]["fd_panns"] == pytest.approx(expected)
    words = np.stack([network.embed_text(material.captions[stem]) for stem in ("drum", "rain")])
    assert report["metrics"]["clap"] == pytest.approx(mean_cosine(words, embedded(0, "drum", "rain")))
    assert report["metrics"]["desync"] <= OFFSETS_S[-1]


def test_the_same_sounds_have_no_distance(material: Material, packages: Path, tmp_path: Path):
    write_tiny_network(tmp_path / "weights", packages)
    same = {stem: (theirs, theirs) for stem, (_ours, theirs) in material.pairs.items()}
    report = pretrained_metrics(Material(same), tmp_path / "weights", adapters=TINY)
    assert report["metrics"]["fd_panns"] == pytest.approx(0, abs=1e-6)
    assert report["metrics"]["kl_panns"] == 0
    assert "--captions" in report["skipped"]["clap"]
    assert "--videos" in report["skipped"]["imagebind"]


def test_a_missing_package_and_a_missing_file_are_said(material: Material, packages: Path, tmp_path: Path):
    (tmp_path / "weights").mkdir()
    report = pretrained_metrics(material, tmp_path / "weights", adapters=TINY)
    assert set(report["skipped"]) == ALL
    assert f"pip install {PACKAGE}" in report["skipped"]["desync"]
    write_tiny_network(tmp_path / "weights", packages, on_import="raise SystemError('imported for nothing')")
    (tmp_path / "weights" / "tiny.pt").unlink()
    report = pretrained_metrics(material, tmp_path / "weights", adapters=TINY)
    assert "lacks tiny.pt" in report["skipped"]["fd_passt"]
    assert report["errors"] == {}


@pytest.mark.parametrize("content", [b"", b"no checkpoint", None], ids=["empty", "noise", "others"])
def test_a_broken_file_costs_its_own_metrics_alone(
    content: bytes | None, material: Material, packages: Path, tmp_path: Path
):
    weights = tmp_path / "weights"
    write_tiny_network(weights, packages)
    if content is None:
        torch.save({"model": {"sound.weight": torch.zeros(2, 2)}}, weights / "broken.pt")
    else:
        (weights / "broken.pt").write_bytes(content)

    class Broken(TinyNetwork):
        def __init__(self, folder: Path) -> None:
            (folder / "tiny.pt").replace(folder / "whole.pt")
            (folder / "broken.pt").replace(folder / "tiny.pt")
            try:
                super().__init__(folder)
            finally:
                (folder / "tiny.pt").replace(folder / "broken.pt")
                (folder / "whole.pt").replace(folder / "tiny.pt")

    broken = dataclasses.replace(tiny("panns"), load=Broken)
    report = pretrained_metrics(material, weights, adapters=dataclasses.replace(TINY, sound=(broken, tiny("passt"))))
    assert set(report["errors"]) == {"fd_panns", "kl_panns", "is_panns"}
    assert "tiny.pt" in report["errors"]["fd_panns"]
    assert set(report["metrics"]) == ALL - set(report["errors"])


def test_a_checkpoint_with_code_in_it_is_refused(material: Material, packages: Path, tmp_path: Path):
    class Code:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "ran"),))

    write_tiny_network(tmp_path / "weights", packages)
    torch.save({"model": Code()}, tmp_path / "weights" / "tiny.pt")
    report = pretrained_metrics(material, tmp_path / "weights", adapters=TINY)
    assert set(report["errors"]) == ALL
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    "fetch",
    [
        "import urllib.request; urllib.request.urlopen('http://127.0.0.1:9/labels.csv')",
        "import os; os.system('touch fetched')",
    ],
)
def test_a_package_that_downloads_when_it_is_imported_is_stopped(
    fetch: str, material: Material, packages: Path, tmp_path: Path
):
    write_tiny_network(tmp_path / "weights", packages, on_import=fetch)
    before = (Path.cwd(), sys.argv, os.environ.get("HF_HUB_OFFLINE"))
    report = pretrained_metrics(material, tmp_path / "weights", adapters=TINY)
    assert set(report["errors"]) == ALL
    assert "never downloads" in report["errors"]["clap"]
    assert not (tmp_path / "weights" / "fetched").exists()
    assert (Path.cwd(), sys.argv, os.environ.get("HF_HUB_OFFLINE")) == before


def test_the_command_says_what_is_left_out_of_the_published_metrics(clips: Path, tmp_path: Path):
    captions, output = tmp_path / "captions.json", tmp_path / "report.json"
    captions.write_text(json.dumps({"drum": "a drum"}))
    folders = ["folders", str(clips / "generated"), str(clips / "reference"), "--captions", str(captions)]
    refused = CliRunner().invoke(eval_, folders)
    assert refused.exit_code == 2
    assert "--metric-weights" in refused.output
    given = ["--metric-weights", str(tmp_path), "--videos", str(clips / "videos"), "--output", str(output)]
    result = CliRunner().invoke(eval_, [*folders, *given])
    assert result.exit_code == 0, result.output
    assert "fd_panns: skipped." in result.output
    report = json.loads(output.read_text())
    assert set(report["pretrained"]["skipped"]) == ALL
    assert report["onsets"]["f1"] >= 0
