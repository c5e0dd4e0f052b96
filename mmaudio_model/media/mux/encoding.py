"""Decodes a section of a video and encodes it again, where it cannot be copied."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from av.video.stream import VideoStream

from mmaudio_model.errors import MediaInvalidError
from mmaudio_model.media.audio import AUDIO_FORMATS, Sound, add_audio_stream, fitted_sound
from mmaudio_model.media.frames import timed_frames
from mmaudio_model.media.mux.sound_track import encoded_sound
from mmaudio_model.media.probe import MediaLimits, frame_rate

REENCODE_QUALITY = {"crf": "18", "preset": "veryfast"}


def reencode_section(
    container: Any,
    stream: VideoStream,
    out: Any,
    start_s: float,
    duration_s: float,
    sound: Sound,
    limits: MediaLimits,
) -> None:
    encoded = out.add_stream("libx264", rate=frame_rate(stream), options=REENCODE_QUALITY)
    # yuv420p needs even sides
    encoded.width, encoded.height = (
        side // 2 * 2 for side in (stream.codec_context.width, stream.codec_context.height)
    )
    encoded.pix_fmt = "yuv420p"
    encoded_base = Fraction(1, 90_000)
    encoded.codec_context.time_base = encoded_base
    fitted = fitted_sound(sound, AUDIO_FORMATS["m4a"]).sound
    audio_stream = add_audio_stream(out, AUDIO_FORMATS["m4a"], fitted)
    first = True
    for time_s, frame in timed_frames(container, stream, start_s, limits, []):
        if time_s >= duration_s:
            break
        if first and frame.rotation:
            encoded.set_display_rotation(frame.rotation)
        first = False
        picture = frame.reformat(width=encoded.width, height=encoded.height, format="yuv420p")
        picture.pts, picture.time_base = round(max(time_s, 0.0) * 90_000), encoded_base
        out.mux(encoded.encode(picture))
    if first:
        raise MediaInvalidError("The video is damaged: none of its frames can be decoded.")
    out.mux(encoded.encode(None))
    for packet in encoded_sound(audio_stream, fitted):
        out.mux(packet)
