"""What a button does: check the form, generate the sound, write the files. No gradio in this module."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from mmaudio_model.errors import RequestInvalidError
from mmaudio_model.local_run import GenerationOptions, read_request, write_result
from mmaudio_model.pipeline import GenerationRequest, Pipeline, text_is_cut

RANDOM_SEED = -1
# A browser's numbers are exact up to here, and the seed that is shown must be the one that was used.
LARGEST_SEED = 2**53 - 1
MOST_STEPS = 100
MOST_GUIDANCE = 20.0
SHORTER_S = 0.05
"""By how much a video may fall short of what was asked for without a word."""

ProgressCallback = Callable[[str, int, int], None]
"""Called with (what is being done, steps done, steps in all)."""


@dataclass(frozen=True)
class Form:
    """The fields of a tab as a person left them; None where a number was taken out. Durations in seconds."""

    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = RANDOM_SEED
    num_steps: int | None = 25
    cfg_strength: float | None = 4.5
    duration_s: float | None = 8.0


@dataclass(frozen=True)
class GeneratedFiles:
    """A result: its files, the seed it was made with, and what the person should know of it."""

    sound: Path
    video: Path | None
    seed: int
    warnings: tuple[str, ...]


class SoundGenerator:
    """The loaded model and the folder for results. Any thread may call it; one at a time has the device."""

    def __init__(self, pipeline: Pipeline, output: Path) -> None:
        self.variant = pipeline.variant
        self._pipeline, self._output = pipeline, output
        self._device = threading.Lock()

    def make(
        self,
        form: Form,
        *,
        video: Path | None = None,
        image: Path | None = None,
        on_progress: ProgressCallback | None = None,
    ) -> GeneratedFiles:
        """Make a sound and write it under a name of its own.

        Raises:
            RequestInvalidError: a knob is out of its range, or the device has too little memory for it.
            MediaError: the file cannot be read.
            OSError: the result cannot be written.
        """
        tell = on_progress or _ignore
        generation_options, duration_s = parse_form(form)
        tell("read", 0, generation_options.num_steps)
        request = read_request(self.variant, generation_options, video=video, image=image, duration_s=duration_s)
        with self._device:
            waveform = self._generate(request, tell)
        tell("write", generation_options.num_steps, generation_options.num_steps)
        written = write_result(
            self._output, unique_stem(), waveform, self.variant, video=video, duration_s=request.duration_s
        )
        sound, *videos = written.paths
        return GeneratedFiles(
            sound=sound,
            video=videos[0] if videos else None,
            seed=generation_options.seed,
            warnings=(*_warnings(request, duration_s), *written.warnings),
        )

    def _generate(self, request: GenerationRequest, tell: ProgressCallback) -> np.ndarray:
        steps = request.num_steps

        def on_stage(stage: str) -> None:
            tell(stage, steps if stage == "vocode" else 0, steps)

        def on_step(step: int, of: int) -> None:
            tell("sample", step, of)

        try:
            (waveform,) = self._pipeline.generate([request], on_stage=on_stage, on_step=on_step)
        except torch.OutOfMemoryError as exc:
            raise RequestInvalidError(
                f"{request.duration_s:g} s do not fit into the device's memory; ask for a shorter sound."
            ) from exc
        assert waveform is not None, "nobody asked it to leave the batch"
        return waveform


def parse_form(form: Form) -> tuple[GenerationOptions, float]:
    """Return what the model is asked for, with a seed drawn if that was wished, and the duration in seconds.

    Raises:
        RequestInvalidError: a field is empty or out of its range.
    """
    seed = _within("seed", form.seed, RANDOM_SEED, LARGEST_SEED)
    generation_options = GenerationOptions(
        prompt=form.prompt,
        negative_prompt=form.negative_prompt,
        seed=secrets.randbelow(2**32) if seed == RANDOM_SEED else int(seed),
        num_steps=int(_within("number of steps", form.num_steps, 1, MOST_STEPS)),
        cfg_strength=_within("guidance strength", form.cfg_strength, 0, MOST_GUIDANCE),
    )
    if form.duration_s is None:
        raise RequestInvalidError("The duration is empty; give a number of seconds.")
    return generation_options, form.duration_s


def unique_stem() -> str:
    """Return a file name, without its ending, that no other result has: the time for people, chance for the rest."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(6)}"


def _within(name: str, value: float | None, least: float, most: float) -> float:
    if value is None:
        raise RequestInvalidError(f"The {name} is empty; give a number from {least} to {most}.")
    if not least <= value <= most:
        raise RequestInvalidError(f"Got a {name} of {value}; it must be from {least} to {most}.")
    return value


def _warnings(request: GenerationRequest, asked_s: float) -> Iterator[str]:
    if request.video is not None:
        yield from request.video.warnings
        if request.duration_s < asked_s - SHORTER_S:
            yield f"The video has {request.duration_s:.2f} s of the {asked_s:g} s asked for; so has the sound."
    for name, text in (("prompt", request.prompt), ("negative prompt", request.negative_prompt)):
        if text and text_is_cut(text):
            yield f"Only the first 75 tokens of the {name} are read."


def _ignore(_doing: str, _done: int, _of: int) -> None:
    """Nobody watches."""
