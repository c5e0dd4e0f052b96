"""Scenes as video files, for demos and for training from a folder."""

from __future__ import annotations

from pathlib import Path

import av
from av.video.frame import VideoFrame

from mmaudio_model.media.audio import AUDIO_FORMATS, Sound, add_audio_stream, audio_frames
from mmaudio_model.procedural_world.picture import Painter
from mmaudio_model.procedural_world.scene import Scene
from mmaudio_model.procedural_world.sound import make_sound

SOUND_RATE_HZ = 48_000
# One thread, so that the same FFmpeg gives the same bytes.
ENCODING = {"crf": "20", "preset": "veryfast", "threads": "1"}


def write_video(
    scene: Scene, path: Path, *, fps: int = 30, height: int = 720, width: int = 1280, with_sound: bool = False
) -> None:
    """Write the scene as MP4: H.264, and AAC at 48 kHz if `with_sound`. Sides must be even (yuv420p)."""
    painter = Painter(scene, height, width)
    draft = path.with_name(f".{path.name}.part")
    try:
        with av.open(str(draft), "w", format="mp4", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=fps, options=ENCODING)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            sound = Sound.mono(make_sound(scene, SOUND_RATE_HZ), SOUND_RATE_HZ) if with_sound else None
            audio = add_audio_stream(container, AUDIO_FORMATS["m4a"], sound) if sound is not None else None
            for index in range(round(scene.duration_s * fps)):
                picture = VideoFrame.from_ndarray(painter.frame(index / fps), format="rgb24")
                container.mux(stream.encode(picture))
            container.mux(stream.encode(None))
            if sound is not None and audio is not None:
                for frame in audio_frames(sound):
                    container.mux(audio.encode(frame))
                container.mux(audio.encode(None))
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
