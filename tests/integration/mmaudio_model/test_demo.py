"""The demo's video: the shipped model makes it sound where the ball hits."""

from __future__ import annotations

from pathlib import Path

from click.testing import CliRunner

from demo.__main__ import LEAST_F1, heard_hits
from mmaudio_model.cli.generate import generate
from mmaudio_model.demo_video import demo_scene, render_demo_video


def test_the_ball_is_heard_where_it_hits(tmp_path: Path) -> None:
    video = tmp_path / "ball.mp4"
    render_demo_video(video)

    result = CliRunner().invoke(
        generate,
        ["--video", str(video), "--prompt", demo_scene().captions[0], "--seed", "1", "--output", str(tmp_path / "out")],
    )

    assert result.exit_code == 0, result.output
    hits = heard_hits(tmp_path / "out" / "ball.flac", demo_scene())
    assert hits.expected >= 8
    assert hits.f1 >= LEAST_F1


def test_the_hits_of_another_scene_are_not_heard(tmp_path: Path) -> None:
    video = tmp_path / "ball.mp4"
    render_demo_video(video, seconds=4.0)
    CliRunner().invoke(generate, ["--video", str(video), "--seed", "1", "--output", str(tmp_path / "out")])

    assert heard_hits(tmp_path / "out" / "ball.flac", demo_scene()).f1 < LEAST_F1
