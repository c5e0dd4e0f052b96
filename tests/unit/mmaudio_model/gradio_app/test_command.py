"""`mmaudio gradio` as far as it goes without a page: the choice of the variant, the missing extra."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from mmaudio_model.checkpoints.files import needed_files
from mmaudio_model.cli.gradio import gradio, largest_installed
from mmaudio_model.variants import get_variant


@pytest.fixture
def weights_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty weights folder, and an empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "weights"


def install(name: str, weights_dir: Path) -> None:
    for file in needed_files(get_variant(name)):
        (weights_dir / file.path).parent.mkdir(parents=True, exist_ok=True)
        (weights_dir / file.path).touch()


def test_without_weights_the_variant_is_the_one_that_needs_none(weights_dir: Path) -> None:
    assert largest_installed(weights_dir).name == "tiny_16k"


def test_the_largest_installed_variant_is_chosen(weights_dir: Path) -> None:
    install("small_16k", weights_dir)
    install("medium_44k", weights_dir)

    assert largest_installed(weights_dir).name == "medium_44k"


def test_a_variant_that_is_not_there_is_refused_by_name() -> None:
    done = CliRunner().invoke(gradio, ["--variant", "huge"])

    assert done.exit_code == 2
    assert "large_44k_v2" in done.output
