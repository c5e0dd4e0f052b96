"""The demo's video: the bundled model makes it sound at the times of its impacts."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from demo.__main__ import MIN_F1, match_bounces
from mmaudio_model.cli.generate import generate
from mmaudio_model.demo_video import SEED, demo_scene, render_demo_video
from mmaudio_model.procedural_world.scene import make_scene


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the sound generated for the demo's video."""
    folder = tmp_path_factory.mktemp("demo")
    render_demo_video(folder / "ball.mp4")
    options = ["--prompt", demo_scene().captions[0], "--seed", "1", "--output", str(folder / "out")]
    result = CliRunner().invoke(generate, ["--video", str(folder / "ball.mp4"), *options])
    assert result.exit_code == 0, result.output
    return folder / "out" / "ball.flac"


def test_the_ball_is_heard_where_it_hits(sound: Path) -> None:
    hits = match_bounces(sound, demo_scene())

    assert hits.expected >= 8
    assert hits.f1 >= MIN_F1


def test_the_hits_of_another_scene_are_not_heard(sound: Path) -> None:
    other = make_scene(SEED + 1, duration_s=6.0, class_name="ball_wood")

    assert match_bounces(sound, other).f1 < MIN_F1 / 2
