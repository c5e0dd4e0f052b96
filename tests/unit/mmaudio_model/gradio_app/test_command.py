"""`mmaudio gradio` before it serves: the choice of the variant, and what is refused."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest
from click.testing import CliRunner

from mmaudio_model.checkpoints.published import needed_files
from mmaudio_model.cli.gradio import gradio, largest_installed
from mmaudio_model.errors import WeightsFolderError, WeightsMissingError
from mmaudio_model.variants import get_variant


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache of the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


@pytest.fixture
def weights_dir(tmp_path: Path) -> Path:
    """An empty weights folder."""
    folder = tmp_path / "weights"
    folder.mkdir()
    return folder


def install(name: str, weights_dir: Path, *, files: int | None = None) -> None:
    for file in needed_files(get_variant(name))[:files]:
        (weights_dir / file.path).parent.mkdir(parents=True, exist_ok=True)
        (weights_dir / file.path).write_bytes(b"weights")


def test_without_weights_the_variant_is_the_bundled_one() -> None:
    assert largest_installed(None).name == "tiny_16k"


def test_the_largest_installed_variant_is_chosen(weights_dir: Path) -> None:
    install("small_16k", weights_dir)
    install("medium_44k", weights_dir)

    assert largest_installed(weights_dir).name == "medium_44k"


def test_a_folder_is_never_ignored(weights_dir: Path) -> None:
    with pytest.raises(WeightsFolderError, match="holds nothing"):
        largest_installed(weights_dir)
    with pytest.raises(WeightsFolderError, match="does not exist"):
        largest_installed(weights_dir / "nowhere")
    install("small_16k", weights_dir, files=2)
    with pytest.raises(WeightsMissingError, match=f"mmaudio weights list --weights {weights_dir}$"):
        largest_installed(weights_dir)


@pytest.mark.parametrize("code", [errno.EADDRINUSE, errno.EADDRNOTAVAIL])
def test_an_address_that_cannot_be_used_is_refused_before_the_model_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(socket.socket, "bind", refuse)
    done = CliRunner().invoke(gradio, ["--port", "7861", "--output", str(tmp_path / "output")])

    assert done.exit_code == 1
    sentence = f"Cannot listen on 127.0.0.1:7861: {os.strerror(code)}. Choose another --port or --host."
    assert done.stderr == f"Error: {sentence}\n"


def test_a_variant_that_is_not_there_is_refused_by_name() -> None:
    done = CliRunner().invoke(gradio, ["--variant", "huge"])

    assert done.exit_code == 2
    assert "large_44k_v2" in done.output
