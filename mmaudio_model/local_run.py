"""A generation on this machine, files in and files out: what `mmaudio generate` and the Gradio page share."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from mmaudio_model.lengths import sequence_lengths
from mmaudio_model.media.audio import write_audio
from mmaudio_model.media.frames import ImageFrame, VideoFrames, read_video_frames
from mmaudio_model.media.image import read_image
from mmaudio_model.media.mux import mux_video
from mmaudio_model.media.probe import MediaLimits
from mmaudio_model.media.reference import read_image_exactly, read_video_frames_exactly
from mmaudio_model.media.resizing import torch_resize
from mmaudio_model.pipeline import GenerationRequest
from mmaudio_model.variants import Variant

LIMITS = MediaLimits()


@dataclass(frozen=True)
class GenerationOptions:
    """What may be turned, with the published program's defaults."""

    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 42
    num_steps: int = 25
    cfg_strength: float = 4.5
    mask_away_clip: bool = False
    reference_exact: bool = False


@dataclass(frozen=True)
class WrittenFiles:
    """The sound, then the video with it if there is one; and what a person should know of them."""

    paths: list[Path]
    warnings: tuple[str, ...] = ()


def default_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def default_precision(device: str) -> str:
    return "bf16" if device.startswith("cuda") else "fp32"


def read_request(
    variant: Variant,
    generation_options: GenerationOptions,
    *,
    video: Path | None,
    image: Path | None,
    duration_s: float | None,
) -> GenerationRequest:
    """Read the files of a request.

    Args:
        duration_s: seconds; None: the video's length, up to the variant's limit. Without a video, and for comparison
            with the published program, None means the variant's default.

    Raises:
        RequestInvalidError: the variant cannot make that.
        MediaError: the file cannot be read.
        OSError: the file cannot be opened.
    """
    if duration_s is None:
        whole = video is not None and not generation_options.reference_exact
        duration_s = variant.max_duration_s if whole else variant.default_duration_s
    sequence_lengths(variant, duration_s)  # refuses what the variant cannot make, before a file is read
    frames = _read_video(video, variant, duration_s, generation_options.reference_exact) if video is not None else None
    picture = _read_image(image, variant, generation_options.reference_exact) if image is not None else None
    if frames is not None:
        duration_s = frames.duration_s
        sequence_lengths(variant, duration_s)  # the video may be shorter than asked for, and too short
    return GenerationRequest(
        duration_s=duration_s,
        seed=generation_options.seed,
        prompt=generation_options.prompt,
        negative_prompt=generation_options.negative_prompt,
        num_steps=generation_options.num_steps,
        cfg_strength=generation_options.cfg_strength,
        mask_away_clip=generation_options.mask_away_clip,
        video=frames,
        image=picture,
        reference_exact=generation_options.reference_exact,
    )


def write_result(
    folder: Path,
    stem: str,
    waveform: np.ndarray,
    variant: Variant,
    *,
    audio_format: str = "flac",
    video: Path | None = None,
    duration_s: float = 0.0,
) -> WrittenFiles:
    """Write the sound, and the first `duration_s` seconds of `video` with it, to `<folder>/<stem>.*`.

    Everything is made under other names first, so that an interruption or a full disk leaves no half file.

    Raises:
        MediaError: the video cannot be read.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rate, sound = variant.sample_rate_hz, f"{stem}.{audio_format}"
    warnings: tuple[str, ...] = ()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as drafts_folder:
        drafts = {sound: Path(drafts_folder) / "sound"}
        write_audio(drafts[sound], waveform, rate, audio_format)
        if video is not None:
            draft = Path(drafts_folder) / "video"
            with video.open("rb") as file:
                result = mux_video(file, waveform, rate, draft, start_s=0.0, duration_s=duration_s, limits=LIMITS)
            warnings = result.warnings
            drafts[f"{stem}.{result.format}"] = draft
        return WrittenFiles([draft.replace(folder / name) for name, draft in drafts.items()], warnings)


def _read_video(path: Path, variant: Variant, duration_s: float, exact: bool) -> VideoFrames:
    sizes = {"clip_size": variant.clip.frame_size, "sync_size": variant.sync.frame_size}
    with path.open("rb") as file:
        if exact:
            return read_video_frames_exactly(file, duration_s=duration_s, **sizes, limits=LIMITS).video
        return read_video_frames(file, start_s=0.0, duration_s=duration_s, **sizes, limits=LIMITS, resize=torch_resize)


def _read_image(path: Path, variant: Variant, exact: bool) -> ImageFrame:
    size = variant.clip.frame_size
    with path.open("rb") as file:
        if exact:
            return read_image_exactly(file, clip_size=size, limits=LIMITS)
        return read_image(file, clip_size=size, limits=LIMITS, resize=torch_resize)
