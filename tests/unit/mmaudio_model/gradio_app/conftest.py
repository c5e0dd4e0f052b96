"""A maker of sounds with the real tiny_16k, and a small real video."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmaudio_model.demo_video import render_demo_video
from mmaudio_model.gradio_app.generation import SoundGenerator
from mmaudio_model.pipeline import Pipeline


@pytest.fixture
def maker(tiny: Pipeline, tmp_path: Path) -> SoundGenerator:
    return SoundGenerator(tiny, tmp_path / "made")


@pytest.fixture(scope="session")
def ball_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "ball.mp4"
    render_demo_video(path, seconds=1.0)
    return path
