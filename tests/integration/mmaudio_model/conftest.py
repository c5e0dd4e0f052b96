"""The bundled model (loaded once), weights folders, and an empty cache for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmaudio_model.demo_video import render_demo_video
from mmaudio_model.gradio_app.generation import SoundGenerator
from mmaudio_model.pipeline import Pipeline
from mmaudio_model.variants import get_variant
from tests.weights_fixtures import converted, hub_cache, published, weights_dir

__all__ = ["converted", "hub_cache", "published", "weights_dir"]


@pytest.fixture(scope="session")
def tiny() -> Pipeline:
    return Pipeline.load(get_variant("tiny_16k"))


@pytest.fixture
def generator(tiny: Pipeline, tmp_path: Path) -> SoundGenerator:
    return SoundGenerator(tiny, tmp_path / "made")


@pytest.fixture(scope="session")
def ball_video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "ball.mp4"
    render_demo_video(path, seconds=1.0)
    return path
