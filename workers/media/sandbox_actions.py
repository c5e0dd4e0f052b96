"""What a media process does with its file. Runs in the sandbox; never imports torch.

Imported by the fork server, so that children have the modules; only `perform` touches a file.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.frames import read_video_frames
from mmaudio_model.media.image import read_image
from mmaudio_model.media.mux.writing import mux_video
from mmaudio_model.media.probe import MediaLimits, container_duration_s, frame_rate, opened
from workers.media.shared_memory import mapped, share

OUTPUT = "out.video"

Done = tuple[dict[str, Any], list[int]]
"""An answer, and the descriptors of its arrays."""


def preload() -> None:
    """Import what the modules above import only when they are used."""
    from PIL import Image

    Image.init()  # its plugins


def perform(instruction: dict[str, Any]) -> Done:
    """Perform an action on the open file of the instruction."""
    limits = MediaLimits(**instruction["limits"])
    arguments = instruction["arguments"]
    descriptor, *arrays = instruction["descriptors"]
    with os.fdopen(descriptor, "rb") as file:
        match instruction["action"]:
            case "facts":
                return _facts(file, limits)
            case "frames":
                frames = read_video_frames(file, limits=limits, **arguments)
                return (
                    {"duration_s": frames.duration_s, "warnings": frames.warnings},
                    [share(frames.clip), share(frames.sync)],
                )
            case "image":
                return {}, [share(read_image(file, limits=limits, **arguments).clip)]
            case "mux":
                waveform = mapped(arrays[0], np.float32, max_bytes=instruction["memory_bytes"])
                result = mux_video(file, waveform, out_path=Path(OUTPUT), limits=limits, **arguments)
                return vars(result), []
            case other:
                raise ValueError(f"unknown action {other!r}")


def _facts(file: BinaryIO, limits: MediaLimits) -> Done:
    """Return what the header declares; nothing for a file that is none: reading it says why."""
    try:
        with opened(file, limits) as (container, stream):
            context = stream.codec_context
            facts = {
                "pixels": context.width * context.height,
                "frame_rate": float(frame_rate(stream)),
                "duration_s": container_duration_s(container, stream),
            }
    except (MediaInvalidError, MediaTooLargeError):
        return {}, []
    return facts, []
