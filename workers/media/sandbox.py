"""Reads and muxes untrusted files, each in a sandboxed process; turns answers into results and checks their form.

Running the processes does not belong here: that is `workers.media.sandbox_calls`.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from mmaudio_model.media.audio import Sound
from mmaudio_model.media.frames import ImageFrame, VideoFrames
from mmaudio_model.media.mixing import OriginalSound
from mmaudio_model.media.mux.plan import MuxOptions, MuxPlan
from mmaudio_model.media.mux.result_container import CONTAINERS, ResultContainer
from mmaudio_model.media.mux.writing import MuxResult
from mmaudio_model.media.probe import FASTEST_RATE, MediaLimits
from mmaudio_model.media.source_facts import SourceFacts
from mmaudio_model.variants import CLIP_FPS, SYNC_FPS
from workers.media.sandbox_actions import OUTPUT
from workers.media.sandbox_answers import (
    checked_pixels,
    checked_plan,
    checked_sound,
    checked_warnings,
    take_file,
)
from workers.media.sandbox_calls import SandboxBrokenError, SandboxCalls, SandboxStoppedError
from workers.media.sandbox_limits import ENCODE_PIXELS_PER_S, READ_PIXELS_PER_S, SandboxLimits, section_pixels

__all__ = ["MediaSandbox", "SandboxBrokenError", "SandboxLimits", "SandboxStoppedError"]


class MediaSandbox:
    """Reads and muxes untrusted files, each call in a process of its own. Thread-safe.

    Every method takes `owner`, which names the call for `stop`, and `source`, from which the time limit follows.

    Args:
        scratch: folder below which each call gets a working folder of its own.
        prestart: start the fork server now; `close` stops it.

    Raises (all methods):
        MediaInvalidError: the file cannot be read, or reading it crashed the process.
        MediaTooLargeError: the file, or reading it, exceeds the limits.
        SandboxStoppedError: `stop` was called for the owner.
        SandboxBrokenError: no process can be started, or the process was lost and the file is not to blame.
        OSError: the scratch folder cannot be written; with ENOSPC when its disk is full.
    """

    def __init__(self, media: MediaLimits, limits: SandboxLimits, scratch: Path, *, prestart: bool = False) -> None:
        self._media, self._limits, self._scratch = media, limits, scratch
        self._calls = SandboxCalls(media, limits, scratch, prestart=prestart)

    def source_facts(self, path: Path, *, owner: str, section_end_s: float) -> SourceFacts | None:
        """Return what a video declares about itself; None: it is none, or damaged, and reading it says why."""
        with self._calls.answer("facts", path, owner, {"section_end_s": section_end_s}) as answer:
            if not answer.facts:
                return None
            duration_s = answer.facts["duration_s"]
            return SourceFacts(
                pixels=min(max(int(answer.facts["pixels"]), 1), self._media.max_pixels),
                frame_rate=min(max(float(answer.facts["frame_rate"]), 0.0), FASTEST_RATE),
                duration_s=float(duration_s) if duration_s is not None else None,
                warnings=checked_warnings(answer.facts["warnings"]),
            )

    def read_frames(
        self,
        path: Path,
        *,
        owner: str,
        start_s: float,
        duration_s: float,
        clip_size: int,
        sync_size: int,
        source: SourceFacts | None = None,
    ) -> VideoFrames:
        """Read a video: see `mmaudio_model.media.frames.read_video_frames`."""
        arguments = {"start_s": start_s, "duration_s": duration_s, "clip_size": clip_size, "sync_size": sync_size}
        wall_s = self._time_for(source, start_s, duration_s, READ_PIXELS_PER_S)
        with self._calls.answer("frames", path, owner, arguments, wall_s=wall_s) as answer:
            clip, sync = answer.arrays
            return VideoFrames(
                clip=checked_pixels(clip, clip_size, math.ceil(duration_s * CLIP_FPS)),
                sync=checked_pixels(sync, sync_size, math.ceil(duration_s * SYNC_FPS)),
                duration_s=float(answer.facts["duration_s"]),
                warnings=checked_warnings(answer.facts["warnings"]),
            )

    def read_image(self, path: Path, *, owner: str, clip_size: int) -> ImageFrame:
        """Read an image: see `mmaudio_model.media.image.read_image`."""
        with self._calls.answer("image", path, owner, {"clip_size": clip_size}) as answer:
            (clip,) = answer.arrays
            return ImageFrame(
                clip=checked_pixels(clip, clip_size, 1), warnings=checked_warnings(answer.facts["warnings"])
            )

    def plan(self, path: Path, *, owner: str, options: MuxOptions, source: SourceFacts | None = None) -> MuxPlan:
        """Decide what muxing will do: see `mmaudio_model.media.mux.plan.plan_mux`."""
        # It may decode up to the first frame of the section.
        wall_s = self._time_for(source, options.start_s, 0.0, READ_PIXELS_PER_S)
        with self._calls.answer("plan", path, owner, options.to_json(), wall_s=wall_s) as answer:
            return checked_plan(answer.facts)

    def original_sound(self, path: Path, *, owner: str, start_s: float, duration_s: float) -> OriginalSound:
        """Read the video's own sound: see `mmaudio_model.media.mixing.read_original_sound`."""
        arguments = {"start_s": start_s, "duration_s": duration_s}
        with self._calls.answer("original_sound", path, owner, arguments) as answer:
            warnings = checked_warnings(answer.facts["warnings"])
            if not answer.arrays:
                return OriginalSound(None, warnings)
            (descriptor,) = answer.arrays
            return OriginalSound(checked_sound(answer.facts, descriptor, duration_s=duration_s), warnings)

    def mux(
        self,
        path: Path,
        sound: Sound,
        out_path: Path,
        *,
        owner: str,
        options: MuxOptions,
        plan: MuxPlan | None = None,
        source: SourceFacts | None = None,
    ) -> MuxResult:
        """Add sound to a video: see `mmaudio_model.media.mux.writing.mux_video`."""
        arguments: dict[str, Any] = {
            "sample_rate_hz": sound.sample_rate_hz,
            "layout": sound.layout,
            "options": options.to_json(),
            "plan": plan.to_json() if plan is not None else None,
        }
        copied = plan is not None and not plan.reencoded
        per_s = READ_PIXELS_PER_S if copied else ENCODE_PIXELS_PER_S
        wall_s = self._time_for(source, options.start_s, options.duration_s, per_s)
        with self._calls.answer("mux", path, owner, arguments, [sound.waveform], wall_s=wall_s) as answer:
            container = ResultContainer(answer.facts["format"])
            take_file(answer.folder / OUTPUT, out_path)
            return MuxResult(
                format=str(container),
                content_type=CONTAINERS[container].content_type,
                reencoded=bool(answer.facts["reencoded"]),
                warnings=checked_warnings(answer.facts["warnings"]),
            )

    def missing_layers(self) -> list[str]:
        """Return which layers of confinement this machine refuses; starts a process that reads no file."""
        self._scratch.mkdir(parents=True, exist_ok=True)
        with self._calls.answer("probe", self._scratch, f"probe-{id(self)}", {}):
            return [str(layer) for layer in self._calls.missing or ()]

    def stop(self, owner: str) -> None:
        """Kill the process that runs for `owner`, if there is one."""
        self._calls.stop(owner)

    def close(self) -> None:
        """Stop the fork server."""
        self._calls.close()

    def _time_for(self, source: SourceFacts | None, start_s: float, duration_s: float, pixels_per_s: float) -> float:
        pixels = section_pixels(source, start_s, duration_s, self._media) if source is not None else 0.0
        return self._limits.time_for(pixels, pixels_per_s=pixels_per_s)
