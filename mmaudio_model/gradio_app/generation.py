"""What a button does: check the form, generate the sound, write the files. No gradio in this module."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.local_run import GenerationOptions, read_request, request_warnings, write_result
from mmaudio_model.pipeline import GenerationRequest, Pipeline

RANDOM_SEED = -1
# Integers are exact in a browser up to this value, and the displayed seed must be the one used.
MAX_SEED = 2**53 - 1
MAX_STEPS = 100
MAX_GUIDANCE = 20.0

ProgressCallback = Callable[[str, int, int], None]
"""Called with (activity, steps done, total)."""


@dataclass(frozen=True)
class Form:
    """Values of a tab's fields; None for an empty number field. Durations in seconds."""

    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = RANDOM_SEED
    num_steps: int | None = 25
    cfg_strength: float | None = 4.5
    duration_s: float | None = 8.0


@dataclass(frozen=True)
class GeneratedFiles:
    """A result: its files, the seed used, and warnings for the user."""

    sound: Path
    video: Path | None
    seed: int
    warnings: tuple[str, ...]


class SoundGenerator:
    """Generates sounds with a loaded model and writes them to a folder. Thread-safe: one request runs at a time."""

    def __init__(self, pipeline: Pipeline, output: Path) -> None:
        self.variant = pipeline.variant
        self._pipeline, self._output = pipeline, output
        self._device = threading.Lock()

    def generate(
        self,
        form: Form,
        *,
        video: Path | None = None,
        image: Path | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> GeneratedFiles:
        """Generate a sound and write it under a unique name.

        Raises:
            RequestInvalidError: a value is out of range, or the device has too little memory.
            MediaError: the file cannot be read.
            OSError: the result cannot be written.
        """
        report_progress = on_progress or _ignore
        generation_options, duration_s = parse_form(form)
        report_progress("read", 0, generation_options.num_steps)
        request = read_request(self.variant, generation_options, video=video, image=image, duration_s=duration_s)
        with self._device:
            waveform = self._generate(request, report_progress)
        report_progress("write", generation_options.num_steps, generation_options.num_steps)
        written = write_result(
            self._output, unique_stem(), waveform, self.variant, video=video, duration_s=request.duration_s
        )
        return GeneratedFiles(
            sound=written.sound,
            video=written.video,
            seed=generation_options.seed,
            warnings=(*request_warnings(request, duration_s), *written.warnings),
        )

    def _generate(self, request: GenerationRequest, report_progress: ProgressCallback) -> np.ndarray:
        steps = request.num_steps

        def on_stage(stage: str) -> None:
            report_progress(stage, steps if stage == "vocode" else 0, steps)

        def on_step(step: int, of: int) -> None:
            report_progress("sample", step, of)

        try:
            (waveform,) = self._pipeline.generate([request], on_stage=on_stage, on_step=on_step)
        except torch.OutOfMemoryError as exc:
            raise RequestInvalidError(
                f"{request.duration_s:g} s do not fit into the device's memory; choose a shorter duration."
            ) from exc
        assert waveform is not None, "no row was dropped"
        return waveform


def parse_form(form: Form) -> tuple[GenerationOptions, float]:
    """Return the options, with a random seed if requested, and the duration in seconds.

    Raises:
        RequestInvalidError: a field is empty or out of range.
    """
    seed = _in_range("seed", form.seed, RANDOM_SEED, MAX_SEED)
    generation_options = GenerationOptions(
        prompt=form.prompt,
        negative_prompt=form.negative_prompt,
        seed=secrets.randbelow(2**32) if seed == RANDOM_SEED else int(seed),
        num_steps=int(_in_range("number of steps", form.num_steps, 1, MAX_STEPS)),
        cfg_strength=_in_range("guidance strength", form.cfg_strength, 0, MAX_GUIDANCE),
    )
    if form.duration_s is None:
        raise RequestInvalidError("The duration is empty; give a number of seconds.")
    return generation_options, form.duration_s


def unique_stem() -> str:
    """Return a unique file name without extension: time stamp and random suffix."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"


def _in_range(name: str, value: float | None, least: float, most: float) -> float:
    if value is None:
        raise RequestInvalidError(f"The {name} is empty; give a number from {least} to {most}.")
    if not least <= value <= most:
        raise RequestInvalidError(f"Got a {name} of {value}; it must be from {least} to {most}.")
    return value


def _ignore(_doing: str, _done: int, _of: int) -> None:
    """Default callback: ignore progress."""
