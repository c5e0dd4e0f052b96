from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from mmaudio_model.procedural_world.picture import draw_frame
from mmaudio_model.procedural_world.scene import make_scene
from mmaudio_model.procedural_world.sound import make_sound
from mmaudio_model.procedural_world.video import SOUND_RATE_HZ, write_video


@pytest.mark.parametrize("with_sound", [False, True])
def test_a_written_video_shows_the_scene(tmp_path: Path, with_sound: bool):
    scene = make_scene(1, duration_s=2.0, class_name="hammer")
    path = tmp_path / "scene.mp4"
    write_video(scene, path, fps=20, height=96, width=160, with_sound=with_sound)
    assert list(tmp_path.iterdir()) == [path]
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264"
        assert len(container.streams.audio) == int(with_sound)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert len(frames) == 40
    assert np.abs(frames[17].astype(int) - draw_frame(scene, 17 / 20, 96, 160)).mean() < 12


def test_its_sound_is_the_scene_s_sound_in_time(tmp_path: Path):
    scene = make_scene(2, duration_s=3.0, class_name="drum")
    path = tmp_path / "scene.mp4"
    write_video(scene, path, fps=10, height=64, width=64, with_sound=True)
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        heard = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(stream)])
    assert stream.sample_rate == SOUND_RATE_HZ
    true = make_sound(scene, SOUND_RATE_HZ)
    length = min(len(heard), len(true))
    assert length > 2.9 * SOUND_RATE_HZ
    assert np.corrcoef(heard[:length], true[:length])[0, 1] > 0.9
