"""What a media process does with its file. Runs in the sandbox; never imports torch.

Imported by the fork server, so that children have the modules and everything that these need.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mmaudio_model.errors import MediaInvalidError, MediaTooLargeError
from mmaudio_model.media.audio import Sound
from mmaudio_model.media.channel_layout import positions
from mmaudio_model.media.frames import read_video_frames
from mmaudio_model.media.image import read_image
from mmaudio_model.media.media_warning import MediaWarning
from mmaudio_model.media.mixing import read_original_sound
from mmaudio_model.media.mux.plan import MuxOptions, MuxPlan, plan_mux
from mmaudio_model.media.mux.writing import mux_video
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.source_facts import read_source_facts
from workers.media.shared_memory import mapped, share

OUTPUT = "out.video"

Done = tuple[dict[str, Any], list[int]]
"""An answer, and the descriptors of its arrays."""


def perform(instruction: dict[str, Any]) -> Done:
    """Perform an action on the open file of the instruction."""
    limits = MediaLimits(**instruction["limits"])
    arguments = instruction["arguments"]
    descriptor, *arrays = instruction["descriptors"]
    with os.fdopen(descriptor, "rb") as file:
        match instruction["action"]:
            case "facts":
                return _facts(file, limits, arguments)
            case "frames":
                frames = read_video_frames(file, limits=limits, **arguments)
                facts = {"duration_s": frames.duration_s, "warnings": _pairs(frames.warnings)}
                return facts, [share(frames.clip), share(frames.sync)]
            case "image":
                image = read_image(file, limits=limits, **arguments)
                return {"warnings": _pairs(image.warnings)}, [share(image.clip)]
            case "plan":
                return {"plan": plan_mux(file, MuxOptions.from_json(arguments), limits).to_json()}, []
            case "original_sound":
                return _original_sound(file, limits, arguments)
            case "mux":
                return _mux(file, limits, arguments, arrays[0], max_bytes=instruction["memory_bytes"])
            case other:
                raise ValueError(f"unknown action {other!r}")


def _facts(file: BinaryIO, limits: MediaLimits, arguments: dict[str, Any]) -> Done:
    """Return what the headers declare; nothing for a file without them: reading it says why."""
    try:
        facts = read_source_facts(file, limits=limits, **arguments)
    except (MediaInvalidError, MediaTooLargeError):
        return {}, []
    return {**vars(facts), "warnings": _pairs(facts.warnings)}, []


def _original_sound(file: BinaryIO, limits: MediaLimits, arguments: dict[str, Any]) -> Done:
    original = read_original_sound(file, limits=limits, **arguments)
    facts: dict[str, Any] = {"warnings": _pairs(original.warnings)}
    sound = original.sound
    if sound is None or not sound.samples:
        return facts, []
    return {**facts, "sample_rate_hz": sound.sample_rate_hz, "layout": sound.layout}, [share(sound.waveform)]


def _mux(file: BinaryIO, limits: MediaLimits, arguments: dict[str, Any], descriptor: int, *, max_bytes: int) -> Done:
    layout = arguments["layout"]
    waveform = mapped(descriptor, np.float32, max_bytes=max_bytes).reshape(len(positions(layout)), -1)
    result = mux_video(
        file,
        Sound(waveform, arguments["sample_rate_hz"], layout),
        Path(OUTPUT),
        options=MuxOptions.from_json(arguments["options"]),
        plan=MuxPlan.from_json(arguments["plan"]) if arguments["plan"] is not None else None,
        limits=limits,
    )
    return {"format": result.format, "reencoded": result.reencoded, "warnings": _pairs(result.warnings)}, []


def _pairs(warnings: Iterable[MediaWarning]) -> list[tuple[str, str]]:
    return [(str(warning.code), warning.text) for warning in warnings]
