"""A generation on this machine, from files to files: shared by `mmaudio generate` and the Gradio app."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from itertools import chain, count
from pathlib import Path

import numpy as np

from mmaudio_model.errors import OutputNotWritableError
from mmaudio_model.lengths import sequence_lengths
from mmaudio_model.media.audio import Sound, write_audio
from mmaudio_model.media.frames import ImageFrame, VideoFrames, read_video_frames
from mmaudio_model.media.image import read_image
from mmaudio_model.media.loudness import is_silent
from mmaudio_model.media.mux.writing import mux_video
from mmaudio_model.media.probe import MediaLimits, probe_video
from mmaudio_model.media.reference import read_image_exactly, read_video_frames_exactly
from mmaudio_model.pipeline import GenerationRequest, text_is_cut
from mmaudio_model.variants import Variant

LIMITS = MediaLimits()
SHORTFALL_TOLERANCE_S = 0.05
"""A video may be this much shorter than requested without a warning."""


@dataclass(frozen=True)
class GenerationOptions:
    """Options of a generation, with the published program's defaults."""

    prompt: str = ""
    negative_prompt: str = ""
    seed: int = 42
    num_steps: int = 25
    cfg_strength: float = 4.5
    mask_away_clip: bool = False
    reference_exact: bool = False


@dataclass(frozen=True)
class WrittenFiles:
    """The files of one result."""

    sound: Path
    video: Path | None = None
    warnings: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        """The sound, then the video if there is one."""
        return [self.sound] if self.video is None else [self.sound, self.video]


def check_writable(folder: Path) -> None:
    """Check that files can be written to a folder, or that the folder can be created; nothing is left behind.

    Raises:
        OutputNotWritableError: they cannot.
    """
    existing = next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise OutputNotWritableError(f"Cannot write to {folder}: {existing} is a file, not a folder.")
    try:
        # A real file: permissions alone do not show a read-only or full file system.
        with tempfile.TemporaryFile(dir=existing):
            pass
    except OSError as exc:
        raise OutputNotWritableError(f"Cannot write to {folder}: {exc.strerror or exc}.") from exc


def read_request(
    variant: Variant,
    generation_options: GenerationOptions,
    *,
    video: Path | None,
    image: Path | None,
    duration_s: float | None,
) -> GenerationRequest:
    """Read the files of a request, as the platform's workers do, so that equal requests give equal sounds.

    Args:
        duration_s: seconds; None: the video's length, up to the variant's limit. Without a video, and with
            `reference_exact`, None means the variant's default.

    Raises:
        RequestInvalidError: the variant cannot generate that duration.
        MediaError: the file is not a video or image that can be read.
        OSError: the file cannot be opened.
    """
    if duration_s is None:
        whole = video is not None and not generation_options.reference_exact
        duration_s = variant.max_duration_s if whole else variant.default_duration_s
    sequence_lengths(variant, duration_s)  # raises for an invalid duration, before a file is read
    frames = _read_video(video, variant, duration_s, generation_options.reference_exact) if video is not None else None
    picture = _read_image(image, variant, generation_options.reference_exact) if image is not None else None
    if frames is not None:
        duration_s = frames.duration_s
        sequence_lengths(variant, duration_s)  # the video may be shorter than requested, and too short
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


def request_warnings(
    request: GenerationRequest, duration_s: float | None, *, video: Path | None = None
) -> tuple[str, ...]:
    """Return what the user should know about a request before it runs.

    Args:
        duration_s: as requested, in seconds; None: no duration was requested.
        video: the file that the request's frames were read from.
    """
    warnings: list[str] = []
    if request.video is not None:
        warnings += (warning.text for warning in request.video.warnings)
        if duration_s is not None and request.duration_s < duration_s - SHORTFALL_TOLERANCE_S:
            warnings.append(
                f"The video has {request.duration_s:.2f} s of the requested {duration_s:g} s; the sound is as long."
            )
    if video is not None and duration_s is None:
        with video.open("rb") as file:
            length_s = probe_video(file, LIMITS).duration_s
        if length_s is not None and length_s > request.duration_s + SHORTFALL_TOLERANCE_S:
            warnings.append(f"Only the first {request.duration_s:g} s of the video's {length_s:.2f} s are used.")
    for name, text in (("prompt", request.prompt), ("negative prompt", request.negative_prompt)):
        if text and text_is_cut(text):
            warnings.append(f"The {name} was truncated to its first 75 tokens.")
    return tuple(warnings)


def write_result(
    folder: Path,
    stem: str,
    waveform: np.ndarray,
    variant: Variant,
    *,
    audio_format: str = "flac",
    video: Path | None = None,
    duration_s: float = 0.0,
    take: int | None = None,
    overwrite: bool = False,
) -> WrittenFiles:
    """Write the sound, and the first `duration_s` seconds of `video` with it, to `<folder>/<stem>.*`.

    If a file of that name exists, a number is appended: `<stem>-2.*`, `<stem>-3.*` and so on, the same for both files.
    Files are complete or absent: they are written under other names first.

    Args:
        take: append this number in any case; if it is in use, the next free one.
        overwrite: replace existing files instead.

    Raises:
        MediaError: the video cannot be read.
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rate = variant.sample_rate_hz
    warnings: tuple[str, ...] = ("The sound is silent; try another seed or prompt.",) if is_silent(waveform) else ()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".unfinished-") as drafts_folder:
        drafts = {audio_format: Path(drafts_folder) / "sound"}
        write_audio(drafts[audio_format], Sound.mono(waveform, rate), audio_format)
        if video is not None:
            draft = Path(drafts_folder) / "video"
            with video.open("rb") as file:
                result = mux_video(file, waveform, rate, draft, start_s=0.0, duration_s=duration_s, limits=LIMITS)
            warnings += result.warnings
            drafts[result.format] = draft
        paths = _move(drafts, folder, stem, take=take, overwrite=overwrite)
    return WrittenFiles(paths[0], paths[1] if video is not None else None, warnings)


def _move(drafts: dict[str, Path], folder: Path, stem: str, *, take: int | None, overwrite: bool) -> list[Path]:
    """Move drafts, by suffix, to their final names."""
    for number in chain([None], count(2)) if take is None else count(take):
        name = stem if number is None else f"{stem}-{number}"
        paths = [folder / f"{name}.{suffix}" for suffix in drafts]
        if overwrite or _reserve(paths):
            break
    try:
        return [draft.replace(path) for draft, path in zip(drafts.values(), paths, strict=True)]
    except BaseException:
        if not overwrite:
            for path in paths:
                path.unlink(missing_ok=True)
        raise


def _reserve(paths: list[Path]) -> bool:
    """Create all files or none; return whether none existed. Another process may look for a free name as well."""
    reserved: list[Path] = []
    for path in paths:
        try:
            path.open("x").close()
        except FileExistsError:
            for each in reserved:
                each.unlink()
            return False
        reserved.append(path)
    return True


def _read_video(path: Path, variant: Variant, duration_s: float, exact: bool) -> VideoFrames:
    clip_size, sync_size = variant.clip.frame_size, variant.sync.frame_size
    with path.open("rb") as file:
        if exact:
            return read_video_frames_exactly(
                file, duration_s=duration_s, clip_size=clip_size, sync_size=sync_size, limits=LIMITS
            ).video
        return read_video_frames(
            file, start_s=0.0, duration_s=duration_s, clip_size=clip_size, sync_size=sync_size, limits=LIMITS
        )


def _read_image(path: Path, variant: Variant, exact: bool) -> ImageFrame:
    size = variant.clip.frame_size
    with path.open("rb") as file:
        if exact:
            return read_image_exactly(file, clip_size=size, limits=LIMITS)
        return read_image(file, clip_size=size, limits=LIMITS)
